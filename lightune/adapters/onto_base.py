"""Any adapter folder onto its base model: a run's, ours, PEFT's or AdapterHub's.

    loaded = onto_base(Path("runs/mine"))
    save_merged(out, loaded.base.model, loaded.attachments, loaded.manifest.head)

Finds out which base the folder names and which output layer it needs, loads that base, and
attaches. A stranger's `base_model_name_or_path` decides what is loaded here only because the user
asked for this folder to be loaded; no code that comes with a model is ever run.
Errors: `AdapterError` when the folder names no base or is no adapter; those of loading.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightune.adapters import hub_folder, peft_folder
from lightune.adapters.files import ADAPTER_WEIGHTS, MANIFEST, PEFT_CONFIG, read_json
from lightune.adapters.hub_folder import load_hub_folder
from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import BaseModelId, HeadId, Manifest, read_manifest
from lightune.adapters.peft_names import plain
from lightune.adapters.tensors import header
from lightune.errors import AdapterError
from lightune.methods.base import Attachment
from lightune.models.load import Base, load
from lightune.types import HeadSpec

Note = Callable[[str], None]


@dataclass(slots=True)
class Loaded:
    """An adapter on its base.

    Attributes:
        base: the base model; `base.model` has the adapter.
        attachments: the method's, then that of the modules beside it.
        manifest: what the folder says, with the base's name and hash filled in.
    """

    base: Base
    attachments: list[Attachment]
    manifest: Manifest


def adapter_folder(folder: Path) -> Path:
    """Return the adapter's folder: of a run, its `adapter`; else the folder itself."""
    inside = Path(folder) / "adapter"
    return inside if inside.is_dir() else Path(folder)


def format_of(folder: Path) -> str:
    """Return `lightune`, `peft` or `adapterhub`.

    Raises:
        AdapterError: it is none of them.
    """
    if (folder / MANIFEST).exists():
        return "lightune"
    if hub_folder.is_one(folder):
        return "adapterhub"
    if peft_folder.is_one(folder):
        return "peft"
    raise AdapterError(
        f"{folder} is no adapter folder",
        found=f"files: {', '.join(sorted(e.name for e in folder.iterdir())) or 'none'}"
        if folder.is_dir()
        else "no folder",
        mend="a run, or a folder with adapter_model.safetensors and its config",
    )


def onto_base(folder: Path, note: Note, model: str | None = None, force: bool = False) -> Loaded:
    """Load the base that `folder` names, or `model`, and attach the adapter.

    Args:
        folder: a run, or an adapter in any of the three formats.
        note: takes each sentence that the user should read.
        model: the base, where the folder's own name of it does not lead to one.
        force: accept a base of other tensors than those of training.
    """
    folder = adapter_folder(folder)
    form = format_of(folder)
    head, named = _lightune(folder) if form == "lightune" else _stranger(folder, form)
    name = model or named
    if not name:
        raise AdapterError(
            f"{folder} does not say which base model it is for",
            found="no name",
            mend="--model NAME",
        )
    base = load(name, HeadSpec(head.kind, head.labels, head.multi_label))
    for sentence in base.notes:
        note(sentence)
    digest = base.hash()
    if form == "adapterhub":
        parts, manifest = load_hub_folder(folder, base.model, note=note)
    else:
        parts, manifest = load_adapter(folder, base.model, digest, force, note)
    if form != "lightune":
        identity = BaseModelId(
            name=base.name, source=base.name, revision=base.revision, tensors_sha256=digest
        )
        manifest = manifest.model_copy(update={"base": identity, "head": head})
    return Loaded(base, parts, manifest)


def _lightune(folder: Path) -> tuple[HeadId, str]:
    manifest = read_manifest(folder)
    head = manifest.head or HeadId(kind="causal_lm")
    return head, manifest.base.name or manifest.base.source


def _stranger(folder: Path, form: str) -> tuple[HeadId, str]:
    """Return the output layer and base that another library's config tells."""
    config = read_json(folder, PEFT_CONFIG)
    if form == "adapterhub":
        labels = hub_folder.labels_of(folder)
        kind = HeadId(kind="sequence_classification", labels=labels or ("LABEL_0", "LABEL_1"))
        return kind, str(config.get("model_name") or "")
    name = str(config.get("base_model_name_or_path") or "")
    if config.get("task_type") == "SEQ_2_SEQ_LM":
        return HeadId(kind="seq2seq_lm"), name
    if config.get("task_type") != "SEQ_CLS":
        return HeadId(kind="causal_lm"), name
    shapes = {plain(key): shape for key, shape in header(folder / ADAPTER_WEIGHTS).items()}
    heads = [
        shape
        for key, shape in shapes.items()
        if ".lora_" not in key and key.endswith(".weight") and len(shape) == 2
    ]
    if not heads:
        raise AdapterError(
            f"{folder} holds no output layer, so the number of its classes is not known",
            found=f"{len(shapes)} tensors, none of a head",
            mend="save it with `modules_to_save`, or load it from Python on a model of your own",
        )
    count = min(rows for rows, _ in heads)  # a pooler or a dense layer has the model's width
    return HeadId(
        kind="sequence_classification", labels=tuple(f"LABEL_{i}" for i in range(count))
    ), name
