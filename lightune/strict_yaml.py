"""YAML as people mean it: plain data, each key once, `5e-4` a number and `no` a word.

Why:        YAML 1.1, which PyYAML reads, takes `5e-4` for text, `no` and `on` for booleans, `1:30`
            for ninety, `2024-01-01` for a date, and the second of two equal keys in silence. Here
            numbers and booleans are those of YAML 1.2's core schema.
Invariants: `read(write(value)) == value` for plain values, and other YAML readers agree on what
            was written. Only mappings (their keys text), lists, text, numbers, booleans and null
            come out. PyYAML's own loaders are not changed.
Safety:     no tags, anchors or aliases (a few lines of aliases can stand for gigabytes), no more
            than `MAX_DEPTH` levels and `MAX_BYTES` bytes: recipes may come from strangers.
Errors:     `ConfigError` with line and column.
"""

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from lightune.errors import ConfigError

MAX_DEPTH = 16
MAX_BYTES = 1_000_000

_SCALARS = [
    ("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", re.compile(r"^(?:[Tt]rue|TRUE|[Ff]alse|FALSE)$"), list("tTfF")),
    ("tag:yaml.org,2002:int", re.compile(r"^[-+]?(?:0|[1-9][0-9_]*)$"), list("-+0123456789")),
    (
        "tag:yaml.org,2002:float",
        re.compile(
            r"^[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"
            r"|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
        ),
        list("-+.0123456789"),
    ),
]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars above; keys are text, and each comes once."""

    yaml_implicit_resolvers = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: dict[str, yaml.Node] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _fault("a key is one word, not a list or a mapping", key)
            if key.value in keys:
                first = keys[key.value].start_mark.line + 1
                raise _fault(f"the key {key.value!r} comes twice, first in line {first}", key)
            keys[key.value] = key
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper; quotes what `_Loader`, or YAML 1.1, would not read as text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def list_on_one_line(self, data: list[Any]) -> yaml.SequenceNode:
        short = not any(isinstance(item, dict | list) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=short)

    def text(self, data: str) -> yaml.ScalarNode:
        odd = any(sign in data for sign in "\x85\u2028\u2029")  # folded to spaces unless escaped
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if odd else None)


_Dumper.add_representer(list, _Dumper.list_on_one_line)
_Dumper.add_representer(str, _Dumper.text)
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(_tag, _pattern, _first)
    _Dumper.add_implicit_resolver(_tag, _pattern, _first)


def read(text: str, name: str) -> Any:
    """Return the plain value that `text` describes.

    Args:
        text: one YAML document.
        name: what messages call it: a file, or an option of the command line.

    Raises:
        ConfigError: not YAML, or more than plain data; line and column are named.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{name} is too large for YAML", f"{len(text)} characters")
    try:
        _only_plain(text)
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        line = text.splitlines()[mark.line : mark.line + 1] if mark else []
        raise ConfigError(
            f"{place}: not valid YAML: {error.problem or error.context}",
            found=line[0].rstrip()[:100] if line else "the end of the file",
            mend=_mend(error, line[0] if line else ""),
        ) from None
    except yaml.YAMLError as error:
        raise ConfigError(
            f"{name}: not valid YAML: {' '.join(str(error).split())}",
            mend="save it as plain UTF-8 text",
        ) from None
    except ValueError as error:  # a whole number of thousands of digits
        raise ConfigError(f"{name}: a value cannot be read: {error}") from None


def read_file(path: Path) -> Any:
    """Return the plain value in a YAML file in UTF-8 or UTF-16, with or without BOM.

    Raises:
        ConfigError: as `read`, and where the file is not text.
        OSError: it cannot be opened.
    """
    with path.open("rb") as file:
        raw = file.read(MAX_BYTES + 1)
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(
            f"{path}:{line}: not UTF-8 text",
            found=repr(raw[error.start : error.start + 8]),
            mend="save it as UTF-8",
        ) from None
    return read(text, str(path))


def write(value: Any) -> str:
    """Return plain data as YAML, keys in their own order; lists of scalars on one line."""
    return yaml.dump(
        value,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=100,
    )


def _only_plain(text: str) -> None:
    """Refuse tags, aliases and depth before anything is built (the parser does not recurse)."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        fault = None
        if depth > MAX_DEPTH:
            fault = f"more than {MAX_DEPTH} levels"
        elif isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            fault = "anchors (&) and aliases (*) are not used here"
        elif getattr(event, "tag", None) not in (None, "!"):
            fault = "tags (!) are not used here"
        if fault:
            raise _fault(fault, event)


def _fault(problem: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=at.start_mark)


def _mend(error: yaml.MarkedYAMLError, line: str) -> str:
    if line[: len(line) - len(line.lstrip())].count("\t"):
        return "indent with spaces; YAML takes no tabs"
    if "comes twice" in str(error.problem):
        return "delete one of the two"
    if "mapping values are not allowed" in str(error.problem):
        return "quote text that contains a colon, or check the indentation of the lines before"
    if "not used here" in str(error.problem) or "cannot start any token" in str(error.problem):
        return "quote text that begins with a sign: 'like this'"
    return "check indentation, and that each `key:` is followed by a space"
