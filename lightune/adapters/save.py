"""Write an adapter folder: all of it or nothing, and never over another.

    peft      adapter_config.json + adapter_model.safetensors, in PEFT's names
    model     a Hugging Face folder: config.json, model.safetensors, tokenizer
    tensors   adapter_model.safetensors, named by path in the model

Beside each lies the manifest, `lightune.json`.

Invariants: the trained tensors are written in float32, whatever the model computed in; the folder
            is written beside its place, every file is fsynced, then it is renamed; the model and
            its config are not changed.
"""

import copy
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from lightune.adapters.files import (
    ADAPTER_WEIGHTS,
    MANIFEST,
    MODEL_WEIGHTS,
    OURS,
    PEFT_CONFIG,
    sha256,
)
from lightune.adapters.manifest import HeadId, Manifest
from lightune.adapters.merge import Tensors, masters, merged_state, without_aliases
from lightune.errors import AdapterError, ResourceError
from lightune.methods.base import Attachment

PEFT_PREFIX = "base_model.model."
PEFT_VERSION = f"0.21.0{OURS}"
"""The format of `adapter_config.json`, and a mark that a manifest belongs to it."""
PROMPT = "prompt_embeddings"
PROMPT_LEARNING = {"PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"}
"""Methods whose weights PEFT saves as one tensor, named `PROMPT`."""
DISK = {errno.ENOSPC: "is full", errno.EDQUOT: "quota is used up", errno.EIO: "failed"}
"""What the system says of a disk that takes no more, in words."""
PEFT_TASK_TYPES = {
    "sequence_classification": "SEQ_CLS",
    "regression": "SEQ_CLS",
    "token_classification": "TOKEN_CLS",
    "question_answering": "QUESTION_ANS",
    "causal_lm": "CAUSAL_LM",
    "seq2seq_lm": "SEQ_2_SEQ_LM",
}


def save_adapter(
    folder: Path,
    model: nn.Module,
    attachments: Sequence[Attachment],
    manifest: Manifest,
    tokenizer: Any = None,
    tensors: Tensors | None = None,
) -> Manifest:
    """Write the trained tensors, and what is needed to use them again, to a new folder.

    Args:
        folder: does not exist yet; its parent does, or is made.
        model: with the attachments on it.
        attachments: the method's, then that of the modules trained beside it.
        manifest: base, method, task, labels; `layout`, `new_modules` and `files` are filled in.
        tokenizer: saved with the layout `model`, whose folder is used without its base.
        tensors: `{path: tensor}` in place of the attachments' parameters (float32 masters, a best
            checkpoint).

    Returns:
        The manifest as written.

    Raises:
        AdapterError: the folder exists, or nothing was trained.
        ResourceError: the disk is full.
    """
    folder = Path(folder)
    _check_new(folder)
    trained = masters(attachments, tensors)
    if not trained:
        raise AdapterError(
            "there is nothing to save: no weight was trained",
            found=f"method: {manifest.method.get('name')}",
            mend="train a head or choose another method",
        )
    layout = attachments[0].layout
    modules = tuple(path for part in attachments for path in part.modules)
    manifest = manifest.model_copy(update={"layout": layout, "new_modules": modules})
    with new_folder(folder) as temporary:
        if layout == "model":
            state = without_aliases(merged_state(model, attachments, tensors))
            _write_tensors(temporary / MODEL_WEIGHTS, state)
            _write_model_config(temporary, model, manifest.head, tokenizer)
        else:
            _write_tensors(temporary / ADAPTER_WEIGHTS, file_tensors(attachments, trained))
            if layout == "peft":
                _write_json(temporary / PEFT_CONFIG, peft_config(attachments, manifest))
        return _write_manifest(temporary, manifest)


def save_tensors(
    folder: Path, tensors: Tensors, manifest: Manifest | None, config: dict[str, Any] | None = None
) -> None:
    """Write an adapter whose tensors are at hand, without a model, to a new folder.

    Args:
        tensors: by their names in the file.
        manifest: `files` is filled in; None where there is no base to bind it to.
        config: PEFT's `adapter_config.json`, for the layout `peft`.

    Raises:
        AdapterError: the folder exists.
        ResourceError: the disk is full.
    """
    with new_folder(Path(folder)) as temporary:
        _write_tensors(temporary / ADAPTER_WEIGHTS, tensors)
        if config is not None:
            _write_json(temporary / PEFT_CONFIG, config)
        if manifest is not None:
            _write_manifest(temporary, manifest)


def save_merged(
    folder: Path,
    model: nn.Module,
    attachments: Sequence[Attachment],
    head: HeadId | None,
    tokenizer: Any = None,
    untie: bool = False,
) -> None:
    """Write the base with the adapter inside: a model that Transformers loads alone.

    Args:
        folder: does not exist yet.
        model: with the attachments on it.
        head: its labels go into the model's config.
        untie: give a changed weight that is tied to another a tensor of its own.

    Raises:
        AdapterError: the folder exists, or the adapter cannot be merged.
        ResourceError: the disk is full.
    """
    _check_new(Path(folder))
    state = without_aliases(merged_state(model, attachments, untie=untie))
    with new_folder(Path(folder)) as temporary:
        _write_tensors(temporary / MODEL_WEIGHTS, state)
        _write_model_config(temporary, model, head, tokenizer, untie)


def _write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write the manifest, with the hash of every file that lies there; return it."""
    hashes = {entry.name: sha256(entry) for entry in sorted(folder.iterdir())}
    manifest = manifest.model_copy(update={"files": hashes})
    _write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def _check_new(folder: Path) -> None:
    if folder.exists() or folder.is_symlink():
        raise AdapterError(
            f"{folder} exists, and an adapter is never overwritten",
            found="a folder" if folder.is_dir() else "a file or link",
            mend="give another folder, or remove this one yourself",
        )


def _is(error: OSError | SafetensorError, code: int) -> bool:
    """Whether the system gave this code; safetensors tells it in its text only."""
    return getattr(error, "errno", None) == code or f"os error {code})" in str(error)


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Give a folder to write into that takes its place, whole and synced, when the body has ended.

    Raises:
        AdapterError: `folder` exists.
        ResourceError: the disk is full or failed; no part of the adapter is left behind.
    """
    _check_new(folder)
    temporary = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.tmp"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for entry in [*temporary.iterdir(), temporary]:
            _fsync(entry)
        temporary.rename(folder)
        _fsync(folder.parent)
    except (OSError, SafetensorError) as error:
        problem = next((word for code, word in DISK.items() if _is(error, code)), None)
        if problem is None:
            raise
        raise ResourceError(
            f"the disk {problem}: the adapter could not be written to {folder}",
            found=str(error),
            mend="free some space, or take another disk, and save or train again into a new "
            "folder; no part of the adapter is left behind",
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def file_tensors(attachments: Sequence[Attachment], trained: Tensors) -> dict[str, Tensor]:
    """Return `{name in adapter_model.safetensors: tensor}` of all that is saved."""
    return {
        name_in_file(attachments, name): tensor
        for part in attachments
        for name, tensor in part.to_file({path: trained[path] for path in part.trainable}).items()
    }


def name_in_file(attachments: Sequence[Attachment], name: str) -> str:
    """Return a tensor's whole name: PEFT names prompts bare, and modules beside them shorter."""
    described = [part.peft_config["peft_type"] for part in attachments if part.peft_config]
    if attachments[0].layout != "peft" or name == PROMPT:
        return name
    beside_prompt = bool(PROMPT_LEARNING.intersection(described))
    return (PEFT_PREFIX.removesuffix("model.") if beside_prompt else PEFT_PREFIX) + name


def peft_config(attachments: Sequence[Attachment], manifest: Manifest) -> dict[str, Any]:
    """Return PEFT's `adapter_config.json` for these attachments."""
    kind = manifest.head.kind if manifest.head else None
    described = {key: v for part in attachments for key, v in (part.peft_config or {}).items()}
    return {
        **described,
        "task_type": PEFT_TASK_TYPES.get(kind) if kind else None,
        "modules_to_save": [path for part in attachments for path in part.modules] or None,
        "base_model_name_or_path": manifest.base.source or manifest.base.name or None,
        "revision": manifest.base.revision or None,
        "inference_mode": True,
        "peft_version": PEFT_VERSION,
    }


def _write_model_config(
    folder: Path, model: Any, head: HeadId | None, tokenizer: Any, untied: bool = False
) -> None:
    """Write what makes a folder of weights a model that Transformers can load."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = "float32"
    if untied:
        config.tie_word_embeddings = False
    if head and head.labels:
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {label: i for i, label in enumerate(head.labels)}
    config.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)


def _write_tensors(path: Path, tensors: Tensors) -> None:
    """Write a safetensors file, floating-point numbers in float32, each on the CPU."""
    ready: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32)
        ready[name] = tensor.cpu().contiguous()
    save_file(ready, path, metadata={"format": "pt"})
    path.chmod(0o644)  # as its neighbours; save_file lets nobody else read it


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _fsync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
