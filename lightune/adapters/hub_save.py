"""Write a bottleneck adapter as a folder that the package `adapters` 1.3 loads.

Invariants: what is written computes the same there, up to rounding; what has no equal there (an
            adapter behind a pooler, another input of a parallel adapter) is refused, not dropped;
            the folder is written beside its place, then renamed.
Errors:     `AdapterError` says which setting has no equal.
Not here:   reading such folders, and what their files mean (`hub_folder.py`, `hub_names.py`).
"""

import json
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from lightune.adapters.files import PEFT_CONFIG
from lightune.adapters.hub_folder import HEAD_CONFIG, HEAD_WEIGHTS, WEIGHTS
from lightune.adapters.hub_names import PARAMETERS, check_family, places
from lightune.errors import AdapterError
from lightune.methods.base import Attachment
from lightune.methods.bottleneck import BottleneckAdapter
from lightune.nn.roles import find_roles

VERSION = "adapters.1.3.0"
"""The format written."""

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "silu": "swish", "tanh": "tanh"}
"""Our words for activations, and the package's."""

NEUTRAL: dict[str, Any] = {
    "adapter_residual_before_ln": False,
    "factorized_phm_W": True,
    "factorized_phm_rule": False,
    "hypercomplex_nonlinearity": "glorot-uniform",
    "init_weights_seed": None,
    "inv_adapter": None,
    "inv_adapter_reduction_factor": None,
    "learn_phm": True,
    "leave_out": [],
    "ln_after": False,
    "ln_before": False,
    "original_ln_after": True,
    "output_adapter": True,
    "phm_bias": True,
    "phm_c_init": "normal",
    "phm_dim": 4,
    "phm_init_range": 0.0001,
    "phm_layer": False,
    "phm_rank": 1,
    "residual_before_ln": True,
    "shared_W_phm": False,
    "shared_phm_rule": True,
    "stochastic_depth": 0.0,
    "use_gating": False,
}
"""Settings of the package that every adapter of ours leaves alone."""


def save_hub_folder(
    folder: Path,
    model: Any,
    method: BottleneckAdapter,
    attachments: Sequence[Attachment],
    name: str = "lightune",
    labels: Sequence[str] = (),
) -> None:
    """Write an adapter, and the output layer trained beside it, to a new folder.

    Args:
        folder: does not exist yet.
        model: with the attachments on it.
        method: that of the first attachment.
        attachments: the method's, then that of the modules beside it, if any.
        name: what the package shall call the adapter.
        labels: class names in the order of the logits.

    Raises:
        AdapterError: the folder exists, or something has no equal in the package.
    """
    folder = Path(folder)
    if folder.exists() or folder.is_symlink():
        raise AdapterError(
            f"{folder} exists, and an adapter is never overwritten",
            found="a folder" if folder.is_dir() else "a file or link",
            mend="give another folder, or remove this one yourself",
        )
    check_family(model.config.model_type)
    blocks = find_roles(model).blocks
    _check(model, method, attachments[0], before={block.placement for block in blocks} != {"post"})
    hub = places(model, method, name)
    weights = {
        f"{hub[path.rpartition('.')[0]]}.{PARAMETERS[path.rpartition('.')[2]]}": tensor
        for path, tensor in attachments[0].trainable.items()
    }
    width = blocks[0].width
    about = {
        "hidden_size": width,
        "model_class": type(model).__name__,
        "model_name": getattr(model.config, "name_or_path", ""),
        "model_type": model.config.model_type,
        "version": VERSION,
    }
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    temporary.mkdir(parents=True)
    try:
        _write_tensors(temporary / WEIGHTS, weights)
        _write_json(
            temporary / PEFT_CONFIG, {"config": settings(method, width), "name": name, **about}
        )
        head = {path: t for part in attachments[1:] for path, t in part.trainable.items()}
        if head:
            ids = {label: number for number, label in enumerate(labels)}
            classes = {"label2id": ids or None, "num_labels": len(ids) or model.config.num_labels}
            _write_tensors(temporary / HEAD_WEIGHTS, head)
            _write_json(temporary / HEAD_CONFIG, {"config": None, "name": None, **classes, **about})
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def settings(method: BottleneckAdapter, width: int) -> dict[str, Any]:
    """Return the package's settings of a method in blocks of `width`."""
    inner = method.inner(width)
    exact = width / inner
    parallel = method.placement == "parallel"
    return {
        **NEUTRAL,
        "mh_adapter": method.placement == "houlsby",
        "cross_adapter": method.placement == "houlsby" and method.cross_attention,
        "original_ln_before": method.placement == "pfeiffer",
        "is_parallel": parallel,
        "non_linearity": ACTIVATIONS[method.activation],
        # The package divides and rounds down; half a unit more makes sure it arrives at `inner`.
        "reduction_factor": exact if int(width // exact) == inner else width / (inner + 0.5),
        "scaling": method.scale,
        "dropout": method.dropout,
        "init_weights": "bert" if method.start == "bert" else "mam_adapter",
    }


def _check(model: Any, method: BottleneckAdapter, attachment: Attachment, before: bool) -> None:
    """Refuse what has no equal in the package.

    Args:
        before: the model's norms come before its sub-layers.
    """
    wrong: dict[str, str] = {}
    blocks = tuple(f"{block.path}." for block in find_roles(model).blocks)
    behind = [path for path in attachment.trainable if not path.startswith(blocks)]
    if behind:
        wrong[f"pooler: true   ({behind[0]} …)"] = "`pooler: false`"
    if method.placement == "parallel" and method.parallel_input == "mlp" and before:
        wrong["parallel_input: mlp   (the package reads the residual)"] = (
            "`parallel_input: residual`"
        )
    if model.config.model_type == "albert" and method.placement == "houlsby":
        wrong["placement: houlsby on ALBERT   (the package adds it to the residual)"] = (
            "`placement: pfeiffer`"
        )
    if wrong:
        raise AdapterError(
            "this adapter has no equal in the package `adapters`",
            found="; ".join(wrong),
            mend=f"train it with {', '.join(wrong.values())}, or keep Lightune's own format",
        )


def _write_tensors(path: Path, weights: Mapping[str, Tensor]) -> None:
    ready = {name: t.detach().float().cpu().contiguous() for name, t in weights.items()}
    save_file(ready, path, metadata={"format": "pt"})


def _write_json(path: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
