"""What an adapter folder says of itself, read from its files; no model is loaded.

Every file that a manifest names is hashed, so that a damaged folder is refused here too.
"""

from collections import Counter
from pathlib import Path
from typing import Any

from lightune.adapters.files import (
    ADAPTER_WEIGHTS,
    MODEL_WEIGHTS,
    PEFT_CONFIG,
    read_json,
    weights_file,
)
from lightune.adapters.hub_folder import WEIGHTS as HUB_WEIGHTS
from lightune.adapters.manifest import check_files, read_manifest
from lightune.adapters.onto_base import adapter_folder, format_of
from lightune.adapters.tensors import header
from lightune.runs.sealed import is_sealed


def describe(folder: Path) -> dict[str, Any]:
    """Return format, method, base, labels, scores, tensors and size of an adapter.

    Args:
        folder: a run, or an adapter in any of the three formats.

    Raises:
        AdapterError: it is none, or a file is not what the manifest says.
    """
    run = Path(folder)
    folder = adapter_folder(run)
    form = format_of(folder)
    page: dict[str, Any] = {"folder": str(folder), "format": form}
    if folder != run:
        page["sealed"] = is_sealed(run)
    name = HUB_WEIGHTS if form == "adapterhub" else ADAPTER_WEIGHTS
    if form == "lightune":
        manifest = read_manifest(folder)
        check_files(folder, manifest)
        name = MODEL_WEIGHTS if manifest.layout == "model" else ADAPTER_WEIGHTS
        page |= {
            "method": manifest.method,
            "base": manifest.base.model_dump(),
            "task": manifest.task.get("name"),
            "labels": list(manifest.head.labels) if manifest.head else [],
            "metrics": manifest.metrics,
        }
    else:
        config = read_json(folder, PEFT_CONFIG)
        page |= {
            "method": config.get("peft_type") or "adapterhub bottleneck",
            "base": config.get("base_model_name_or_path") or config.get("model_name"),
        }
    shapes = header(weights_file(folder, name))
    ranks = Counter(
        shape[0] for key, shape in shapes.items() if ".lora_A." in key and len(shape) == 2
    )
    if ranks:
        page["ranks"] = {str(rank): count for rank, count in sorted(ranks.items())}
    count = 0
    for shape in shapes.values():
        size = 1
        for side in shape:
            size *= side
        count += size
    return page | {
        "tensors": len(shapes),
        "weights": count,
        "bytes": (folder / name).stat().st_size,
    }
