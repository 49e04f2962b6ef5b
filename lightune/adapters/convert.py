"""One adapter, written in another library's format: ours, PEFT's or AdapterHub's.

From ours to PEFT's nothing is computed: the folder is PEFT's already, but for our manifest, so the
files are copied without it. Everything else goes through the base model, which proves that every
tensor has its place.
Errors: `AdapterError` where the other library has no such method, and those of loading.
"""

import json
import shutil
from pathlib import Path

from lightune.adapters.files import ADAPTER_WEIGHTS, OURS, PEFT_CONFIG, read_json, weights_file
from lightune.adapters.hub_save import save_hub_folder
from lightune.adapters.manifest import read_manifest
from lightune.adapters.onto_base import Note, adapter_folder, format_of, onto_base
from lightune.adapters.save import new_folder, save_adapter
from lightune.errors import AdapterError
from lightune.methods.base import methods
from lightune.methods.bottleneck import BottleneckAdapter
from lightune.settings import parse

FORMATS = ("lightune", "peft", "adapterhub")


def convert(
    folder: Path,
    out: Path,
    to: str,
    note: Note,
    model: str | None = None,
    force: bool = False,
) -> str:
    """Write the adapter in `folder` to the new folder `out`; return the format it had.

    Args:
        folder: a run, or an adapter in any of the three formats.
        out: does not exist yet.
        to: one of `FORMATS`.
        note: takes each sentence that the user should read.
        model: the base, where the folder's own name of it does not lead to one.
        force: accept a base of other tensors than those of training.

    Raises:
        AdapterError: see the module.
    """
    folder, out = adapter_folder(folder), Path(out)
    form = format_of(folder)
    if to not in FORMATS or to == form:
        raise AdapterError(
            f"--to {to}: " + ("it is in that format already" if to == form else "no such format"),
            found=f"{folder}: {form}",
            mend=f"one of {', '.join(other for other in FORMATS if other != form)}",
        )
    if form == "lightune" and to == "peft":
        _without_manifest(folder, out)
        return form
    loaded = onto_base(folder, note, model, force)
    settings = dict(loaded.manifest.method)
    method = parse(methods()[settings.pop("name")], settings, "method")
    if to == "peft" and not loaded.attachments[0].peft_config:
        raise _unknown(folder, method.name, "PEFT")
    if to == "adapterhub":
        if not isinstance(method, BottleneckAdapter):
            raise _unknown(folder, method.name, "AdapterHub's bottleneck format")
        labels = loaded.manifest.head.labels if loaded.manifest.head else ()
        save_hub_folder(out, loaded.base.model, method, loaded.attachments, labels=labels)
        return form
    save_adapter(out, loaded.base.model, loaded.attachments, loaded.manifest, loaded.base.tokenizer)
    return form


def _without_manifest(folder: Path, out: Path) -> None:
    manifest = read_manifest(folder)
    if manifest.layout != "peft":
        raise _unknown(folder, str(manifest.method.get("name")), "PEFT")
    config = read_json(folder, PEFT_CONFIG)
    config["peft_version"] = str(config.get("peft_version", "")).removesuffix(OURS)
    with new_folder(out) as temporary:
        shutil.copyfile(weights_file(folder, ADAPTER_WEIGHTS), temporary / ADAPTER_WEIGHTS)
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        (temporary / PEFT_CONFIG).write_text(text, encoding="utf-8")


def _unknown(folder: Path, method: str, library: str) -> AdapterError:
    return AdapterError(
        f"{folder}: {library} has no such method",
        found=f"method {method!r}",
        mend="`lightune adapters merge` writes a model that every library loads, where the method "
        "merges",
    )
