"""A model as a folder of files: which files count, and whether they are whole.

Invariants: weights are safetensors only. A pickle runs code when read, so it is refused by name,
            whatever else the folder holds.
Errors:     `ModelError` for no config.json, no weights, pickled weights, a damaged file.
Cost:       reads the headers, never the tensors.
"""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from lightune.errors import ModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SUPPORT_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "spm.model",
    "source.spm",
    "target.spm",
    "chat_template.jinja",
    "preprocessor_config.json",
)
"""Everything but weights that a model needs; nothing else is fetched."""

_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_HEADER_LIMIT = 100_000_000  # bytes; the format's own limit


def weight_files(names: Iterable[str], where: str) -> list[str]:
    """Return which of a folder's files hold the weights, the index of shards included.

    Args:
        names: the files at the top of the folder.
        where: the folder or id, for messages.

    Raises:
        ModelError: there are none, or only pickles.
    """
    present = sorted(names)
    if SINGLE in present:
        return [SINGLE]
    if INDEX in present:
        return [INDEX, *(name for name in present if _SHARD.fullmatch(name))]
    pickles = [name for name in present if name.endswith(_PICKLES)]
    if pickles:
        raise ModelError(
            f"{where}: the weights are pickled, and a pickle can run any code when it is read",
            found=", ".join(pickles),
            mend="take a revision or a model that has `model.safetensors`, or convert it where "
            "you trust it: `AutoModel.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER)`",
        )
    raise ModelError(
        f"{where}: there are no weights",
        found=f"files: {', '.join(present[:8]) or 'none'}",
        mend=f"the folder needs `{SINGLE}` (or `{INDEX}` and its shards)",
    )


def check_folder(folder: Path) -> list[Path]:
    """Check that a folder holds a whole model; return its weight files.

    Raises:
        ModelError: what is missing or damaged.
    """
    if not folder.is_dir():
        raise ModelError(
            f"model: there is no folder {str(folder)!r}",
            found="a file" if folder.is_file() else "nothing at that path",
            mend="a folder with config.json, or a name that `lightune models` lists",
        )
    names = [path.name for path in folder.iterdir() if path.is_file()]
    if "config.json" not in names:
        adapter = "adapter_config.json" in names
        raise ModelError(
            f"{folder}: not a model: it has no config.json",
            found="an adapter (adapter_config.json)" if adapter else f"files: {_few(names)}",
            mend="name the adapter's base model as `model`, and the run as `train.from`"
            if adapter
            else "a folder that `save_pretrained` wrote, or a name that `lightune models` lists",
        )
    read_json(folder / "config.json")
    chosen = [folder / name for name in weight_files(names, str(folder))]
    shards = [path for path in chosen if path.name != INDEX]
    if len(shards) < len(chosen):
        _check_shards(folder / INDEX, {path.name for path in shards})
    for path in shards:
        check_safetensors(path)
    return shards


def read_json(path: Path) -> dict:
    """Read a JSON object.

    Raises:
        ModelError: it is not one.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # bad UTF-8 included
        raise ModelError(f"{path}: not JSON", str(error), "fetch the model again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not a JSON object", type(value).__name__, "fetch it again")
    return value


def check_safetensors(path: Path) -> None:
    """Check from the header that a safetensors file is whole.

    Raises:
        ModelError: it is truncated, or not of that format.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= min(size, _HEADER_LIMIT) else b""
    try:
        tensors = json.loads(header)
        tensors.pop("__metadata__", None)
        ends = [int(tensor["data_offsets"][1]) for tensor in tensors.values()]
    except (ValueError, AttributeError, TypeError, LookupError):
        raise ModelError(
            f"{path}: damaged: no safetensors header can be read",
            found=f"{size:,} bytes",
            mend="delete the file and fetch the model again",
        ) from None
    whole = 8 + length + max(ends, default=0)
    if size != whole:
        raise ModelError(
            f"{path}: damaged: the file is {'truncated' if size < whole else 'too long'}",
            found=f"{size:,} bytes where its header promises {whole:,}",
            mend="delete the file and fetch the model again",
        )


def _check_shards(index: Path, present: set[str]) -> None:
    weight_map = read_json(index).get("weight_map")
    needed = set(weight_map.values()) if isinstance(weight_map, dict) else set()
    missing = sorted(needed - present)
    if missing or not needed:
        raise ModelError(
            f"{index}: not every part of the weights is there",
            found=f"missing: {_few(missing)}" if missing else "no weight_map in the index",
            mend="fetch the model again",
        )


def _few(names: Iterable[str]) -> str:
    ordered = sorted(names)
    return (", ".join(ordered[:6]) + (" …" if len(ordered) > 6 else "")) or "none"
