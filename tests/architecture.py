"""The rules of the code, each a function from the root of a tree to what breaks the rule there.

`python tests/architecture.py` prints the folder map that the READMEs must have.
Tested by `test_architecture.py`, on this tree and on copies with one fault each.
"""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("lightune", "tests", "benchmarks", "recipes", "examples", "docs")
LONGEST = 400
MOST_FIELDS = 14

ORDER = (  # low to high; a file imports its own folder and what stands in a line above its own
    "errors types settings registry strict_yaml network",
    "nn metrics runs",
    "data models methods tasks",
    "engine adapters",
    "evaluate",
    "train",
    "recipe template predictor assembly recorded run resume sealing preflight watch pipeline "
    "conversation",
    "seal compare explain export serve scale sklearn",
    "cli studio",
    "__main__",
)
LAYER = {name: number for number, names in enumerate(ORDER) for name in names.split()}

NO_TORCH = ("runs", "data", "metrics", "cli", *ORDER[0].split(), "recipe", "template")
NO_TORCH_FILES = ("lightune.train.spec", "lightune.engine.spec")

FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}
MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:work|root|home|Users)/(?!someone|x\b)\w+")
"""`/home/someone` and `/root/x` are what tests and texts may write."""


def python_files(root: Path, *folders: str) -> list[Path]:
    return [file for folder in folders for file in sorted((root / folder).rglob("*.py"))]


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def name_of(root: Path, file: Path) -> str:
    """`lightune/nn/losses.py` -> `lightune.nn.losses`."""
    return ".".join(file.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def imports(root: Path, file: Path, modules: set[str]) -> Iterator[tuple[int, str]]:
    """Yield line and module of every import of this package, wherever it stands in the file."""
    package = name_of(root, file.parent / "__init__.py").split(".")
    for node in ast.walk(parsed(file)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield node.lineno, inner if inner in modules else source


def layers(root: Path) -> Iterator[str]:
    files = python_files(root, "lightune")
    modules = {name_of(root, file) for file in files}
    for file in files:
        here = file.relative_to(root / "lightune").parts[0].removesuffix(".py")
        if here == "__init__":
            continue
        place = file.relative_to(root)
        if here not in LAYER:
            yield f"{place}: give `{here}` a layer in tests/test_architecture.py"
            continue
        for line, module in imports(root, file, modules):
            if not module.startswith("lightune."):
                continue
            there = module.split(".")[1]
            level = LAYER.get(there, len(ORDER))
            both_files = (
                not (root / "lightune" / here).is_dir() and not (root / "lightune" / there).is_dir()
            )
            if there != here and (level > LAYER[here] or (level == LAYER[here] and not both_files)):
                yield f"{place}:{line}: {here} imports {there}, which is not below it"


def length(root: Path) -> Iterator[str]:
    for file in python_files(root, *CODE):
        lines = len(file.read_text(encoding="utf-8").splitlines())
        if lines > LONGEST:
            yield f"{file.relative_to(root)}: {lines} lines; split it: one file, one idea"


def docstrings(root: Path) -> Iterator[str]:
    for file in python_files(root, *CODE):
        empty = file.name == "__init__.py" and not file.stat().st_size
        if not (empty or ast.get_docstring(parsed(file))):
            yield f"{file.relative_to(root)}: add a module docstring"


def names(root: Path) -> Iterator[str]:
    for file in python_files(root, *CODE):
        for part in file.relative_to(root).with_suffix("").parts:
            if part in FORBIDDEN_NAMES:
                yield f"{file.relative_to(root)}: `{part}` says nothing; name it by what it does"


def machine_paths(root: Path) -> Iterator[str]:
    for file in repository(root):
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if found := MACHINE_PATH.search(line):
                yield f"{file.relative_to(root)}:{number}: a folder of one machine, {found[0]}"


def repository(root: Path) -> list[Path]:
    """Return the files that git has or would take; all files where there is no git."""
    if (root / ".git").exists():
        command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
        listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        return [path for name in listed.stdout.split("\0") if (path := root / name).is_file()]
    hidden = {".venv", "__pycache__", ".git"}
    return [f for f in root.rglob("*") if f.is_file() and not hidden & set(f.parts)]


def plain_code(root: Path) -> Iterator[str]:
    """No stubs, no code from text, no swallowed errors, no assert for what a user gives."""
    for file in python_files(root, "lightune"):
        text = file.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), start=1):
            if re.search(r"\b(TODO|FIXME|XXX)\b", line):
                yield f"{file.relative_to(root)}:{number}: finish it"
        for node in ast.walk(parsed(file)):
            fault = ""
            if isinstance(node, ast.Assert):
                fault = "assert vanishes under -O; raise an error that names the mend"
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("exec", "eval"):
                fault = "code from text"
            elif isinstance(node, ast.Name) and node.id == "NotImplementedError":
                fault = "a stub"
            elif isinstance(node, ast.ExceptHandler) and catches_all(node):
                fault = "catches everything and goes on; name the errors"
            if fault:
                yield f"{file.relative_to(root)}:{node.lineno}: {fault}"


def catches_all(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    wide = any(
        kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds
    )
    return wide and not any(isinstance(node, ast.Raise) for node in ast.walk(handler))


def mapped(root: Path) -> set[str]:
    """The files that the README's map must name."""
    files = (f for f in (root / "lightune").rglob("*") if f.is_file())
    return {
        f.relative_to(root / "lightune").as_posix()
        for f in files
        if "__pycache__" not in f.parts and not f.name.startswith(("__", "."))
    }


def first_line(source: Path) -> str:
    """Return what a file says of itself in the first line of its docstring or, in C, comment."""
    if not source.exists() or source.suffix not in (".py", ".c", ".h"):
        return ""
    text = source.read_text(encoding="utf-8")
    if source.suffix == ".py":
        return (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0].rstrip(".")
    return text.partition("\n")[0].removeprefix("/* ").removesuffix(" */").rstrip(".")


def folder_map(root: Path) -> str:
    """Return the map to paste into a README; the words are the first lines of the docstrings."""
    lines = ["lightune/"]

    def walk(folder: Path, indent: str) -> None:
        here = [p for p in folder.iterdir() if p.is_dir() and p.name != "__pycache__"]
        here += [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(("__", "."))]
        ranked = sorted(here, key=lambda p: (LAYER.get(p.stem, 0) if not indent else 0, p.name))
        for path in ranked:
            last = path == ranked[-1]
            source = path / "__init__.py" if path.is_dir() else path
            about = first_line(source)
            name = f"{indent}{'└' if last else '├'}── {path.name}{'/' * path.is_dir()}"
            lines.append(f"{name:<34} {about}".rstrip())
            if path.is_dir():
                walk(path, indent + ("    " if last else "│   "))

    walk(root / "lightune", "")
    return "\n".join(lines)


def read_map(text: str) -> set[str] | None:
    """Return the files that a README's map names; None where it has no map."""
    block = re.search(r"```\w*\nlightune/\n(.*?)```", text, re.DOTALL)
    if not block:
        return None
    files, folders = set(), []
    for line in block[1].splitlines():
        entry = re.match(r"((?:[│ ]   )*)[├└]── (\S+)", line)
        if not entry:
            continue
        depth = len(entry[1]) // 4
        del folders[depth:]
        if entry[2].endswith("/"):
            folders.append(entry[2])
        else:
            files.add("".join(folders) + entry[2])
    return files


def readme_maps(root: Path) -> Iterator[str]:
    for name in ("README.md", "README.zh-CN.md"):
        path = root / name
        listed = read_map(path.read_text(encoding="utf-8")) if path.is_file() else None
        if listed is None:
            yield f"{name}: no folder map"
            continue
        yield from (f"{name}: the map lacks {file}" for file in sorted(mapped(root) - listed))
        yield from (f"{name}: the map has {file}" for file in sorted(listed - mapped(root)))


def run_in(root: Path, code: str) -> list[str]:
    """Run `code` with the package of `root`; return the JSON list it prints last."""
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, '.')\n{code}"],
        cwd=root, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    if ran.returncode:
        return [f"an error: {ran.stderr.strip().splitlines()[-1]}"]
    return json.loads(ran.stdout.splitlines()[-1])


def no_torch(root: Path) -> Iterator[str]:
    """The command line and what it needs at once start without torch."""
    modules = {name_of(root, file) for file in python_files(root, "lightune")}
    light = {m for m in modules if m.count(".") and m.split(".")[1] in NO_TORCH}
    wanted = ["lightune", "lightune.cli.main", *sorted(light), *NO_TORCH_FILES]
    yield from run_in(
        root,
        f"""
import importlib, json
found, heavy = [], {{"torch", "transformers"}}
for name in {wanted}:
    importlib.import_module(name)
    if heavy & set(sys.modules):
        found.append(f"{{name}}: imports {{', '.join(sorted(heavy & set(sys.modules)))}}")
        break
print(json.dumps(found))
""",
    )


def described(root: Path) -> Iterator[str]:
    """Every settings class is small and explained; every method and task says what it is."""
    has_settings = re.compile(r"^class \w+\((?:Settings|Method|Task)\b", re.MULTILINE)
    files = python_files(root, "lightune")
    wanted = [name_of(root, f) for f in files if has_settings.search(f.read_text("utf-8"))]
    yield from run_in(
        root,
        f"""
import importlib, json
for name in {wanted}:
    importlib.import_module(name)
from lightune.methods.base import Method
from lightune.settings import Settings
from lightune.tasks.base import Task

def below(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from below(sub)

found = []
for cls in below(Settings):
    where = cls.__module__ + "." + cls.__name__
    if len(cls.model_fields) > {MOST_FIELDS}:
        found.append(where + ": more than {MOST_FIELDS} fields; nest them")
    for name, info in cls.model_fields.items():
        if not (info.description or "").strip():
            found.append(where + "." + name + ": no docstring under it")
for base, needs in (
    (Method, ("name", "paper", "summary", "learning_rate")),
    (Task, ("name", "summary", "fields", "deciding")),
):
    for cls in base.__subclasses__():
        where = cls.__module__ + "." + cls.__name__
        found += [where + ": no " + need for need in needs if not getattr(cls, need, None)]
        if cls.__subclasses__():
            found.append(where + ": is final, yet has subclasses")
print(json.dumps(found))
""",
    )


RULES = (layers, length, docstrings, names, machine_paths, plain_code, no_torch, described)
"""All but the READMEs' maps, whose failure prints the map to paste."""


if __name__ == "__main__":
    print(folder_map(ROOT))
