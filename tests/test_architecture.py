"""The rules of `architecture.py` hold here; and each notices a fault put into a copy."""

import shutil

import pytest
from architecture import (
    ROOT,
    RULES,
    described,
    docstrings,
    folder_map,
    layers,
    length,
    machine_paths,
    names,
    no_torch,
    plain_code,
    readme_maps,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule):
    found = list(rule(ROOT))
    assert not found, "\n".join(found)


def test_readme_maps_are_the_tree():
    found = list(readme_maps(ROOT))
    assert not found, "\n".join([*found, "", "paste this:", "```", folder_map(ROOT), "```"])


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package with READMEs that have the map."""
    root = tmp_path_factory.mktemp("mutants")
    shutil.copytree(ROOT / "lightune", root / "lightune", ignore=shutil.ignore_patterns("__py*"))
    for name in ("README.md", "README.zh-CN.md"):
        (root / name).write_text(f"# L\n\n```\n{folder_map(root)}\n```\n", encoding="utf-8")
    return root


TOY = """from typing import ClassVar
from lightune.methods.base import Method
from lightune.settings import Settings
class Toy(Method):
    name: ClassVar[str] = "toy"
    summary: ClassVar[str] = "a toy"
    learning_rate: ClassVar[float] = 0.1
    rank: int = 3
class Wide(Settings):
    {fields}
class Child(Toy):
    pass
""".format(fields="\n    ".join(f'f{n}: int = 0\n    """F."""' for n in range(15)))


@pytest.mark.parametrize(
    ("rule", "file", "text", "messages"),
    [
        (layers, "data/m.py", "from lightune.engine import spec", ["m.py:1: data imports engine"]),
        (layers, "data/m.py", "import lightune.models.catalogue", ["data imports models"]),
        (layers, "nn/m.py", "from lightune import runs", ["nn imports runs"]),
        (layers, "nn/m.py", "from ..train import spec", ["nn imports train"]),
        (
            layers,
            "nn/m.py",
            "def f():\n    from lightune.newer import x",
            ["m.py:2: nn imports new"],
        ),
        (layers, "errors.py", "from lightune import template", ["errors imports template"]),
        (layers, "settings.py", "from lightune.errors import x", []),
        (layers, "new.py", "", ["give `new` a layer"]),
        (length, "nn/m.py", "x = 1\n" * 401, ["401 lines"]),
        (length, "nn/m.py", "x = 1\n" * 400, []),
        (docstrings, "nn/m.py", "x = 1", ["nn/m.py: add a module docstring"]),
        (docstrings, "nn/__init__.py", "x = 1", ["add a module docstring"]),
        (names, "nn/utils.py", "", ["`utils` says nothing"]),
        (names, "helpers/m.py", "", ["`helpers` says nothing"]),
        (machine_paths, "nn/m.py", "# see " + "/work/" + "here", ["nn/m.py:1: a folder of one"]),
        (machine_paths, "m.yaml", "a: " + "/home/" + "jane", ["m.yaml:1"]),
        (plain_code, "nn/m.py", "assert x", ["m.py:1: assert"]),
        (plain_code, "nn/m.py", "x = 1  # TO" + "DO", ["finish it"]),
        (plain_code, "nn/m.py", "raise NotImplementedError", ["a stub"]),
        (plain_code, "nn/m.py", "exec('x')", ["code from text"]),
        (plain_code, "nn/m.py", "try:\n    x\nexcept:\n    pass", ["m.py:3: catches everything"]),
        (plain_code, "nn/m.py", "try:\n    x\nexcept (OSError, Exception):\n    y", ["catches"]),
        (plain_code, "nn/m.py", "try:\n    x\nexcept Exception:\n    raise", []),
        (no_torch, "runs/m.py", "import torch", ["lightune.runs.m: imports torch"]),
        (no_torch, "cli/main.py", "import torch", ["lightune.cli.main: imports torch"]),
        (no_torch, "__init__.py", "import transformers", ["lightune: imports"]),
        (
            readme_maps,
            "nn/m.py",
            "",
            ["README.md: the map lacks nn/m.py", "zh-CN.md: the"],
        ),
        (readme_maps, "errors.py", None, ["README.md: the map has errors.py"]),
        (
            described,
            "methods/toy.py",
            TOY,
            ["Toy: no paper", "Toy.rank: no docstring", "Wide: more than 14", "Toy: is final"],
        ),
    ],
)
def test_every_rule_notices(copy, rule, file, text, messages):
    """Break one thing in a copy; the rule must say so, and be content again when it is mended."""
    path = copy / "lightune" / file
    before = path.read_bytes() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    known = set(rule(copy)) if rule not in (no_torch, described) else set()
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="utf-8")
    try:
        found = [message for message in rule(copy) if message not in known]
    finally:
        path.unlink(missing_ok=True)
        if before is not None:
            path.write_bytes(before)
    assert bool(found) == bool(messages)
    for message in messages:
        assert any(message in line for line in found), found
