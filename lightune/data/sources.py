"""What the user named -> the files to read, in a fixed order.

Why:        a folder or glob must mean the same files in the same order on every machine, and a
            folder with train, dev and test files must not be trained on as a whole.
Invariants: a path that exists is that path; only what does not is tried as a glob, then as a hub
            address. Every name that leads nowhere is an error that offers near names.
"""

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from lightune.data.hub import ROLES, is_address
from lightune.errors import DataError, nearest_file

ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".conll": "conll",
    ".iob": "conll",
    ".iob2": "conll",
    ".bio": "conll",
    ".bioes": "conll",
    ".bmes": "conll",
}
_GZIP = ".gz"


def ending_of(path: Path) -> str:
    """Return the ending that tells the format, without `.gz`."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix == _GZIP else suffix


def is_hub(source: str) -> bool:
    """Whether `source` is to be fetched from the hub rather than read from disk."""
    if source.startswith("hf:"):
        return True
    path = Path(source.partition("#")[0])
    return (
        is_address(source)
        and not path.exists()
        and not path.parent.exists()
        and ending_of(path) not in ENDINGS
        and path.suffix.lower() not in (_GZIP, ".txt", ".zip", ".xlsx")
    )


def locate(source: str, role: str | None, any_ending: bool) -> list[Path]:
    """Return the files that one path, folder or glob stands for.

    Args:
        role: `train`, `test` or `validation`: of a folder, the files that are named so, else
            those that are named like no role, else all. None takes all.
        any_ending: the recipe gives the format, so a folder's files are taken whatever their name.

    Raises:
        DataError: nothing is there.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        files = _inside(path, any_ending)
        return files if role is None else of_role(files, role)
    if path.exists():
        return [path]
    if re.search(r"[*?\[]", source):
        matches = sorted(Path(m) for m in glob.glob(str(path), recursive=True))
        files = [match for match in matches if match.is_file()]
        if files:
            return files
        raise DataError(
            f"{source}: no file matches",
            found=_listing(_existing_parent(path)),
            mend='give a pattern that matches files, such as "data/*.csv"',
        )
    raise _missing(source, path)


def role_of(path: Path) -> str | None:
    """Return the role that a file's name tells: `in_domain_train.tsv` is `train`."""
    words = re.split(r"[^a-z]+", path.name.lower())
    for role, names in ROLES.items():
        if any(word in names for word in words):
            return role
    return None


def of_role(files: Sequence[Path], role: str) -> list[Path]:
    """Return the files named for `role`, else those named for none, else all."""
    named = [file for file in files if role_of(file) == role]
    return named or [file for file in files if role_of(file) is None] or list(files)


def files_for(source: object, role: str) -> list[Path]:
    """Return the files that a folder given as training data names for another role."""
    if not isinstance(source, str) or not (path := Path(source).expanduser()).is_dir():
        return []
    return [file for file in _inside(path, any_ending=False) if role_of(file) == role]


def _inside(folder: Path, any_ending: bool) -> list[Path]:
    """Return a folder's data files, sorted; those of subfolders only where it has none itself."""
    for pattern in ("*", "**/*"):
        files = [
            file
            for file in sorted(folder.glob(pattern))
            if file.is_file()
            and not file.name.startswith(".")
            and (ending_of(file) in ENDINGS or any_ending)
        ]
        if files:
            return files
    raise DataError(
        f"{folder}: a folder without data files",
        found=_listing(folder),
        mend=f"name a file, or give a folder with files that end in {', '.join(ENDINGS)}",
    )


def _missing(source: str, path: Path) -> DataError:
    parent = _existing_parent(path)
    if parent != path.parent:
        return DataError(
            f"{source}: no such file or folder",
            found=f"{parent} exists, {path.relative_to(parent).parts[0]!r} in it does not",
            mend=_nearest(path.relative_to(parent).parts[0], parent),
        )
    return DataError(
        f"{source}: no such file or folder",
        found=_listing(parent),
        mend=_nearest(path.name, parent),
    )


def _nearest(name: str, folder: Path) -> str:
    near = nearest_file(name, [entry.name for entry in folder.iterdir()])
    if near:
        return f"did you mean `{folder / near}`?"
    return f"check the path; it is looked up from {Path.cwd()}"


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.parents if parent.is_dir())


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    shown = ", ".join(names[:8]) or "nothing"
    return f"in {folder}: {shown}{f' and {len(names) - 8} more' if len(names) > 8 else ''}"
