"""Put a saved adapter back on its base model, bit for bit, or say why it does not belong there.

Order of the checks: the manifest, the files' hashes, the base's hash, names and shapes from the
header, then the values. Whatever fails, the model is left as it was.
Not here: folders without a manifest (`peft_folder.py`).
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from lightune.adapters import peft_folder
from lightune.adapters.files import (
    ADAPTER_WEIGHTS,
    MANIFEST,
    MODEL_WEIGHTS,
    weights_file,
)
from lightune.adapters.manifest import Manifest, check_files, read_manifest
from lightune.adapters.merge import merged_state, without_aliases
from lightune.adapters.peft_names import plain
from lightune.adapters.save import name_in_file
from lightune.adapters.tensors import check_shapes, header, tensors
from lightune.errors import AdapterError
from lightune.methods.base import Attachment, Method, methods
from lightune.methods.beside import train_new_modules
from lightune.settings import parse


def load_adapter(
    folder: Path,
    model: nn.Module,
    base_hash: str | None,
    force: bool = False,
    note: Callable[[str], None] = warnings.warn,
    method: Method | None = None,
) -> tuple[list[Attachment], Manifest]:
    """Attach a saved adapter to its base model.

    Args:
        folder: what `save_adapter` wrote, or a folder that PEFT wrote.
        model: the base model, frozen, with an output layer of the adapter's labels.
        base_hash: hash of the model's base tensors; None is accepted only where the folder
            holds no hash.
        force: load onto another base of the same shape, or without the manifest. For experts.
        note: takes each sentence that the user should read.
        method: attach this instead of the one that a folder of PEFT's describes; it must compute
            the same, and have the same tensors.

    Returns:
        The attachments in order (the method's, then the modules beside it), and the manifest. For
        a folder that PEFT wrote, a manifest of what it tells, without a hash of the base.

    Raises:
        AdapterError: files are missing, damaged or unsafe; the base is another; a tensor is
            missing, unexpected, misshapen or not finite.
    """
    folder = Path(folder)
    if any(p.requires_grad for p in model.parameters()):
        raise AdapterError(
            "an adapter is loaded onto a frozen model, and this one is not",
            found=f"{sum(p.requires_grad for p in model.parameters())} trainable tensors",
            mend="model.requires_grad_(False)",
        )
    if not (folder / MANIFEST).exists() and peft_folder.is_one(folder):
        described = peft_folder.describe(folder, model, force)
        manifest, names = described.manifest, described.names
        for sentence in described.notes:
            note(sentence)
    else:
        manifest, names = read_manifest(folder), None
    check_files(folder, manifest)
    if not force:
        _check_base(folder, manifest, base_hash)
    saved = _method(folder, manifest)
    if method is not None:
        _check_same(folder, method, saved)
    method = method or saved
    weights = weights_file(folder, MODEL_WEIGHTS if manifest.layout == "model" else ADAPTER_WEIGHTS)
    if (folder / MANIFEST).exists() and weights.name not in manifest.files:
        raise AdapterError(
            f"{folder / MANIFEST} does not vouch for the weights",
            found=f"hashes of: {', '.join(manifest.files) or 'no file'}",
            mend=f"copy the folder again; `files` must hold the SHA-256 of {weights.name}",
        )
    attachments: list[Attachment] = []
    try:
        with torch.random.fork_rng(devices=[]):  # the random start is overwritten: leave no trace
            attachments.append(train_new_modules(model, manifest.new_modules))
            attachments.insert(0, method.loaded().attach(model))
        if manifest.layout == "model":
            _fill_model(weights, model, attachments)
        else:
            _fill(weights, attachments, names)
    except BaseException:
        for part in attachments:  # the method came last
            part.detach()
        raise
    return attachments, manifest


def _check_base(folder: Path, manifest: Manifest, base_hash: str | None) -> None:
    """Compare the base's hash with the manifest's."""
    expected = manifest.base.tensors_sha256
    if expected is None or expected == base_hash:
        return
    name = manifest.base.name or manifest.base.source or "an unnamed model"
    raise AdapterError(
        f"{folder} was trained on another base model than the one loaded",
        found=f"the adapter's base: {name}, tensors {expected[:16]}…; "
        f"this model: {f'tensors {base_hash[:16]}…' if base_hash else 'no hash given'}",
        mend=f"load the base model {name}"
        + (f" at revision {manifest.base.revision}" if manifest.base.revision else "")
        + ", or pass force=True if you know that the two are the same",
    )


def _method(folder: Path, manifest: Manifest) -> Method:
    """Build the method from the manifest's settings."""
    settings = dict(manifest.method)
    name, known = settings.pop("name", None), methods()
    if not isinstance(name, str) or name not in known:
        raise AdapterError(
            f"{folder} was made by the method {name!r}, which is not installed",
            found=f"known: {', '.join(known)}",
            mend="install the package that brings the method, or update Lightune",
        )
    return parse(known[name], settings, f"{folder / MANIFEST}: method")


def _check_same(folder: Path, method: Method, saved: Method) -> None:
    """Refuse a method that would compute something else from the same tensors."""
    ours, theirs = method.model_dump(), saved.model_dump()
    decide = [key for key in ("rank", "alpha", "rank_stabilized") if key in theirs]
    different = [
        f"{key} was {theirs[key]}, and the recipe says {ours.get(key)}"
        for key in decide
        if ours.get(key) != theirs[key]
    ]
    if method.name != saved.name:
        different.insert(0, f"method was {saved.name}, and the recipe says {method.name}")
    if different:
        raise AdapterError(
            f"{folder} cannot be trained on with this recipe",
            found="; ".join(different),
            mend="give the recipe the settings of the folder",
        )


def _fill(
    path: Path, attachments: Sequence[Attachment], names: Mapping[str, str] | None = None
) -> None:
    """Fill the attachments' tensors from an adapter file.

    Args:
        names: `{name without PEFT's prefix: name in the file}` where they are not ours.
    """
    expected: dict[str, tuple[int, ...]] = {}
    owners: dict[str, Attachment] = {}
    with torch.no_grad():
        for part in attachments:
            for name, tensor in part.to_file(part.trainable).items():
                owners[name] = part
                expected[name_in_file(attachments, name)] = tuple(tensor.shape)
        file_names = {name: name for name in expected}
        if names is not None:
            file_names = {name: names.get(plain(name), name) for name in expected}
        ours = {file_name: name for name, file_name in file_names.items()}
        found = {ours.get(name, name): shape for name, shape in header(path).items()}
        check_shapes(path, found, expected)
        wanted = {name: file_names[name_in_file(attachments, name)] for name in owners}
        for name, tensor in tensors(path, wanted):
            places = {**owners[name].constants, **owners[name].trainable}
            for place, value in owners[name].from_file(name, tensor).items():
                places[place].copy_(value)


def _fill_model(path: Path, model: nn.Module, attachments: Sequence[Attachment]) -> None:
    """Fill the attachments' tensors from a whole model; whatever is not trained must be equal."""
    trained = {p: t for part in attachments for p, t in part.trainable.items()}
    state = without_aliases(merged_state(model, attachments))
    check_shapes(path, header(path), {name: tuple(t.shape) for name, t in state.items()})
    _copy(path, {name: name for name in trained}, trained)
    rest = {name: name for name in state if name not in trained}
    different = [name for name, t in tensors(path, rest) if not torch.equal(t, state[name].float())]
    if different:
        raise AdapterError(
            f"{path} differs from the base in tensors that were not trained",
            found=", ".join(different),
            mend="load it onto the base model that it was trained with",
        )


def _copy(path: Path, names: Mapping[str, str], trained: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for key, tensor in tensors(path, names):
            trained[key].copy_(tensor)
