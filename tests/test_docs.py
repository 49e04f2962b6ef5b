"""What the documents tell people to type is true: recipes parse, commands and names exist."""

import ast
import inspect
import re
import shlex
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

import lightune
from lightune.cli.main import app
from lightune.recipe import load_recipe
from lightune.run import Run

ROOT = Path(__file__).parents[1]
NAMED = ("README.md", "README.zh-CN.md", "CONTRIBUTING.md")
WRITTEN = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
DOCUMENTS = (*NAMED, *WRITTEN)
WORDS = ("lightune", "make", "pip", "source", "git")
"""What the first word of a command may be."""


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str, *languages: str) -> list[str]:
    """Return the fenced blocks of a document in these languages; a plain fence is ``."""
    found = re.findall(r"^```(\S*)\n(.*?)^```", text_of(name), re.S | re.M)
    return [code for language, code in found if language in languages]


def commands(name: str) -> list[str]:
    """Return the command lines of a document: of its plain and shell blocks, and in its prose."""
    lines = []
    for block in blocks(name, "", "sh", "bash", "shell", "console"):
        joined = block.replace("\\\n", " ")
        lines += [line.removeprefix("$ ").strip() for line in joined.splitlines()]
    prose = re.sub(r"^```.*?^```", "", text_of(name), flags=re.S | re.M)
    lines += re.findall(r"`((?:lightune|make) [^`]+)`", prose)
    known = [line for line in lines if line.split(" ")[0] in WORDS]
    return [" ".join(line.split()) for line in known]


def without_comment(line: str) -> list[str]:
    return shlex.split(line, comments=True)


def parse(words: list[str]) -> None:
    """Let the real command line read the words, without running anything."""
    command, context, rest = get_command(app), None, words[1:]
    while True:
        name = words[0] if context is None else command.name
        context = command.make_context(name, list(rest), parent=context)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*getattr(context, "_protected_args", []), *context.args]
        if not rest:
            return
        _, command, rest = command.resolve_command(context, rest)


LIGHTUNE = [(doc, line) for doc in DOCUMENTS for line in commands(doc) if "lightune " in line[:9]]
MAKE = [(doc, line) for doc in DOCUMENTS for line in commands(doc) if line.startswith("make ")]


def test_there_is_something_to_check():
    assert len([1 for doc, _ in LIGHTUNE if doc == "README.md"]) > 8
    assert len(MAKE) > 4


@pytest.mark.parametrize(("document", "line"), LIGHTUNE)
def test_a_command_exists(document, line):
    parse(without_comment(line))


@pytest.mark.parametrize(
    "line",
    [
        "lightune train --no-such-option",
        "lightune trian x",
        "lightune methods shew lora",
        "lightune evaluate",
    ],
)
def test_the_check_notices_what_does_not_exist(line):
    with pytest.raises(Exception, match=r"No such|no command|Missing|shew|trian"):
        parse(without_comment(line))


@pytest.mark.parametrize(("document", "line"), MAKE)
def test_a_make_target_exists(document, line):
    targets = re.findall(r"^([\w-]+):", text_of("Makefile"), re.M)
    wanted = [word for word in without_comment(line)[1:] if "=" not in word]
    assert set(wanted) <= set(targets)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_recipes_are_read(document, tmp_path):
    least = "task: classification\nmodel: minilm\nmethod: lora\ndata: {train: data.csv}\n"
    for number, block in enumerate(blocks(document, "yaml")):
        file = tmp_path / f"{number}.yaml"
        whole = {**yaml.safe_load(least), **yaml.safe_load(block)}  # some show a section only
        file.write_text(yaml.safe_dump(whole), encoding="utf-8")
        load_recipe(file)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_toml_is_read(document):
    for block in blocks(document, "toml"):
        assert tomllib.loads(block)


PYTHON = [(doc, n, code) for doc in DOCUMENTS for n, code in enumerate(blocks(doc, "python"))]


@pytest.mark.parametrize(
    ("document", "code"), [(doc, code) for doc, _, code in PYTHON], ids=[p[0] for p in PYTHON]
)
def test_python_names_exist(document, code):
    check_names(code)


@pytest.mark.parametrize(
    "code",
    [
        "from lightune import Runner",
        "import lightune\nlightune.fit()",
        "import lightune\nrun = lightune.train()\nrun.score()",
        "import lightune\nlightune.train(model='a', tasks='classification')",
        "import lightune\nlightune.train(task='classification', data='x', method={'rang': 3})",
        "from lightune.sklearn import LightuneClassifier\nLightuneClassifier(epoch=2)",
        "import lightune\nrun = lightune.Run.open('x')\nrun.metrics['nonesuch']",
        "x = (",
    ],
)
def test_the_check_notices_a_wrong_name(code):
    with pytest.raises((AttributeError, AssertionError, TypeError, ValueError, SyntaxError)):
        check_names(code)


def check_names(code: str) -> None:
    """Resolve every name that comes from an import or from a run, and check call keywords."""
    tree = ast.parse(code)
    known: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                known[alias.asname or alias.name] = import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            module = import_module(node.module or "")
            known |= {a.asname or a.name: getattr(module, a.name) for a in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            called = resolved(node.value.func, known)
            if called in (lightune.train, Run.open):
                known[node.targets[0].id] = Run
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            resolved(node, known)
        elif isinstance(node, ast.Call):
            check_call(node, resolved(node.func, known))
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value) == "run.metrics":
            assert ast.literal_eval(node.slice) in ("accuracy", "macro_f1", "matthews")


def resolved(node: ast.expr, known: dict[str, Any]) -> Any:
    """Return what `a.b.c` stands for, or None where `a` is nothing we know."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute):
        owner = resolved(node.value, known)
        if owner is Run and node.attr == "folder":
            return Path
        return getattr(owner, node.attr) if owner is not None else None
    return None


def check_call(node: ast.Call, function: Any) -> None:
    """Check the keywords of a call, and read the sections of a call of `train` as a recipe."""
    named = {k.arg: k.value for k in node.keywords if k.arg}
    if function is lightune.train:
        own = inspect.signature(function).parameters
        sections = {k: ast.literal_eval(v) for k, v in named.items() if k not in own}
        if sections:
            load_recipe({"task": "classification", "data": "x.csv"} | sections)
    elif function is not None and str(getattr(function, "__module__", "")).startswith("lightune"):
        inspect.signature(function).bind_partial(**named)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_linked_files_exist(document):
    folder = (ROOT / document).parent
    links = re.findall(r"\]\(([^)\s]+)\)", text_of(document))
    local = {link.partition("#")[0] for link in links if "://" not in link} - {""}
    assert [link for link in sorted(local) if not (folder / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_of_the_project_that_are_named_exist(document):
    folders = "lightune|tests|recipes|examples|docs|benchmarks"
    named = set(re.findall(rf"`((?:{folders})/[\w./*-]+)`", text_of(document)))
    assert [name for name in sorted(named) if not any(ROOT.glob(name))] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nothing_is_left_to_fill_in(document):
    assert re.findall(r"^[A-Z]+(?:_[A-Z]+)*$", text_of(document), re.M) == []


class TestBothReadmes:
    """The Chinese README has the commands and the code of the English one."""

    english, chinese = "README.md", "README.zh-CN.md"

    def test_same_commands(self):
        def plain(name):
            """Texts in quotes are data."""
            found = [re.sub(r'"[^"]*"', "TEXT", line) for line in commands(name)]
            return [shlex.split(line, comments=True) for line in found]

        english = plain(self.english)
        chinese = [words for words in plain(self.chinese) if "bge-small-zh" not in words]
        assert chinese == english

    def test_same_python(self):
        def trees(name):
            return [ast.dump(ast.parse(code)) for code in blocks(name, "python")]

        assert len(trees(self.english)) >= 2
        assert trees(self.chinese) == trees(self.english)

    def test_same_recipes(self):
        """The same keys; names of columns, files and the model are of the language."""
        ours, theirs = (
            [yaml.safe_load(code) for code in blocks(name, "yaml")]
            for name in (self.english, self.chinese)
        )
        assert len(ours) == len(theirs) >= 1
        for one, other in zip(ours, theirs, strict=True):
            assert one.keys() == other.keys()
            assert (one["method"], one["train"]) == (other["method"], other["train"])
            assert one["data"].keys() <= other["data"].keys()

    def test_same_links_and_sections(self):
        def links(name):
            found = re.findall(r"\]\(([^)\s]+)\)", text_of(name))
            others = [link for link in found if link not in (self.english, self.chinese)]
            return sorted(link.replace(".zh-CN.md", ".md") for link in others)

        def headings(name):
            return len(re.findall(r"^## ", text_of(name), re.M))

        assert links(self.chinese) == links(self.english)
        assert headings(self.chinese) == headings(self.english)


def test_every_command_takes_json():
    """The README says so."""

    def leaves(command, path):
        for name, inner in getattr(command, "commands", {}).items():
            yield from leaves(inner, [*path, name])
        if not getattr(command, "commands", {}):
            yield " ".join(path), command

    found = dict(leaves(get_command(app), []))
    assert {"train", "evaluate", "predict", "init", "doctor"} <= found.keys()
    for path, command in found.items():
        assert any("--json" in parameter.opts for parameter in command.params), path
