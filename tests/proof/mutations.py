"""How files and values are damaged: by chance, and each value of a mapping in turn."""

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

NASTY = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b'"', b'""', b"'", b"\r", b"\n", b"\t",
    b",", b"\\", b"\\ud83d", b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"1e999", b"-1", b"NaN",
    b"null", b"Infinity", b"true", b"&a [*a]", b"!!python/object:os.system", b"- " * 40, b"|",
    b"?", b"{}",
    b"[]", b"\xe2\x80\xa8", b"\x85", b"../../x", b"<None>", b"hf://x",
    b"18446744073709551616", b"0",
)  # fmt: skip
"""What tends to break readers."""

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["", "auto", "lora", "../x", "0", "-1", "1e400", "all-linear", "nan"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
"""Whatever a JSON or YAML file may hold."""


@st.composite
def damaged(draw: Any, whole: bytes) -> bytes:
    """Draw a file with one to five changes."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, len(content)))
        end = min(len(content), place + draw(st.integers(1, 60)))
        kind = draw(st.sampled_from(("bit", "cut", "double", "move", "nasty", "short", "random")))
        if kind == "bit" and place < len(content):
            content[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del content[place:end]
        elif kind == "double":
            content[place:place] = content[place:end] * draw(st.integers(1, 30))
        elif kind == "move":
            piece = content[place:end]
            del content[place:end]
            at = draw(st.integers(0, len(content)))
            content[at:at] = piece
        elif kind == "nasty":
            content[place:place] = draw(st.sampled_from(NASTY))
        elif kind == "short":
            del content[place:]
        elif kind == "random":
            content[place:place] = draw(st.binary(max_size=20))
    return bytes(content)


@st.composite
def changed(draw: Any, whole: Any) -> Any:
    """Draw a plain value with one to three of its parts replaced, dropped or added."""
    value = json.loads(json.dumps(whole))
    for _ in range(draw(st.integers(1, 3))):
        at = value
        while isinstance(at, dict) and at:
            key = draw(st.sampled_from(sorted(at)))
            if not isinstance(at[key], dict) or not at[key] or draw(st.integers(0, 3)) == 0:
                kind = draw(st.sampled_from(("replace", "replace", "drop", "add")))
                if kind == "drop":
                    del at[key]
                else:
                    at[key if kind == "replace" else draw(st.text(max_size=8))] = draw(VALUES)
                break
            at = at[key]
    return value


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 2**70, 1.5, float("nan"), float("inf"), "", "x", "../x", "\ud83d", [], [[]],
    {}, {"a": [1]}, [None], ["x"],
)  # fmt: skip


def paths(value: Any, before: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every value inside a mapping of mappings."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*before, key)
            yield from paths(inner, (*before, key))


def replaced(whole: Any) -> Iterator[Any]:
    """Yield copies of `whole`, each with one value replaced by one of `ODD`, or left out."""
    for path in paths(whole):
        for odd in (*ODD, KeyError):
            changed = copy.deepcopy(whole)
            at = changed
            for key in path[:-1]:
                at = at[key]
            if odd is KeyError:
                del at[path[-1]]
            else:
                at[path[-1]] = odd
            yield changed
