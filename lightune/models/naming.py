"""What a model's name means: a catalogue entry, a folder, or an id on the hub or ModelScope.

    minilm                   catalogue (or, not found there, an old hub id without owner)
    org/name[@revision]      Hugging Face hub, or its mirror by HF_ENDPOINT
    ms:org/name[@revision]   ModelScope
    ./folder  /folder  ~/f   a folder of this machine; also `a/b` where such a folder exists

The catalogue wins over a folder of the same bare name: a recipe means the same everywhere.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from lightune.errors import ModelError

_ID = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,127}")


@dataclass(frozen=True, slots=True)
class Name:
    """A model's name, understood.

    Attributes:
        kind: `catalogue`, `hub`, `modelscope` or `folder`.
        id: the entry, the id, or the path.
        revision: what followed `@`; empty for the default branch.
    """

    kind: Literal["catalogue", "hub", "modelscope", "folder"]
    id: str
    revision: str = ""

    @property
    def slug(self) -> str:
        """The folder name of this model in the cache."""
        if self.kind == "catalogue":
            return self.id
        parts = [self.kind, *self.id.split("/"), *filter(None, [self.revision.replace("/", "-")])]
        return "--".join(parts)


def understand(text: str, known: Iterable[str]) -> Name:
    """Say what `text` names.

    Raises:
        ModelError: it can be none of the four.
    """
    if text in known:
        return Name("catalogue", text)
    is_path = text.startswith((".", "/", "~")) or "\\" in text
    if is_path or Path(text).is_dir():
        return Name("folder", str(Path(text).expanduser()))
    kind: Literal["hub", "modelscope"] = "modelscope" if text.startswith("ms:") else "hub"
    model_id, _, revision = text.removeprefix("ms:").partition("@")
    good = _ID.fullmatch(model_id) and ".." not in text and "--" not in model_id
    if not good or (revision and not _REVISION.fullmatch(revision)):
        raise ModelError(
            f"model: {text!r} is neither a catalogue name, nor a folder, nor an id",
            found=repr(text),
            mend="a name that `lightune models` lists, `org/name`, `ms:org/name`, or a folder",
        )
    return Name(kind, model_id, revision)


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Return the names most like `name`, best first; also those that contain it or are in it."""
    names = list(known)
    bare = name.removeprefix("ms:").rpartition("/")[2].partition("@")[0].lower()
    near = get_close_matches(bare, names, n=3, cutoff=0.6)
    return near + [n for n in names if n not in near and (n in bare or bare in n) and len(bare) > 2]
