"""Methods and tasks of an installed package appear, train, and load again; nothing is edited.

The method is CONTRIBUTING.md's own example, so that what is told to contributors is true.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_runs import recipe, rows

from lightune import registry
from lightune.errors import ConfigError

ROOT = Path(__file__).parents[1]

TASK = '''"""A task of another package: classification under another name."""

from typing import ClassVar

from lightune.tasks.base import Field, Task
from lightune.tasks.classification import Classification

REAL = Classification()


class Polarity(Task):
    """Good or bad."""

    name: ClassVar[str] = "polarity"
    summary: ClassVar[str] = "good or bad"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("text", ("text",)),
        Field("label", ("label",), kind="label", needed_to_predict=False),
    )
    deciding: ClassVar[str] = "accuracy"
    text: str | None = None
    """Column of the text."""
    label: str | None = None
    """Column of the label."""


def passed_on(name):
    return lambda self, *args, **options: getattr(REAL, name)(*args, **options)


for name in (*Task.__abstractmethods__, "study"):
    setattr(Polarity, name, passed_on(name))
Polarity.__abstractmethods__ = frozenset()
'''

SCRIPT = """
import json, sys
import torch
import lightune
from lightune.cli.main import main
from lightune.methods.base import methods
from lightune.models.tiny import FAMILIES
from lightune.types import HeadSpec

given = json.loads(sys.argv[1])
assert main(["methods", "--json"]) == 0
assert main(["tasks", "--json"]) == 0
assert main(["methods", "show", "biases", "--json"]) == 0

model, tokenizer = FAMILIES["bert"](HeadSpec("sequence_classification", ("a", "b")))
inputs = tokenizer(["good film"], return_tensors="pt")
before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
plain = model(**inputs).logits
attachment = methods()["biases"]().attach(model)
assert torch.equal(model(**inputs).logits, plain), "identity at the start"
assert attachment.trainable, "it trains something"
assert all(path.endswith(".bias") for path in attachment.trainable)
with torch.no_grad():
    for tensor in attachment.trainable.values():
        tensor.add_(1)
assert not torch.equal(model(**inputs).logits, plain), "its tensors are the model's"
attachment.detach()
assert torch.equal(model(**inputs).logits, plain)
after = model.state_dict()
assert before.keys() == after.keys()
assert all(torch.equal(before[name], after[name]) for name in before)

run = lightune.train(given, out="run", progress="silent")
opened = lightune.Run.open("run")
print(json.dumps([run.metrics, run.predict("good"), opened.predict("good")]))
"""


def example() -> str:
    """Return the method of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", text, re.S)
    return code


def test_an_installed_package_adds_a_method_and_a_task(tiny, tmp_path):
    package = tmp_path / "site" / "my_package"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "biases.py").write_text(example())
    (package / "polarity.py").write_text(TASK)
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    [toml] = re.findall(r"```toml\n(.*?)```", text, re.S)
    [(group, name, module)] = re.findall(r'entry-points\."(.+?)"\]\n(\w+) = "(.+?)"', toml)
    points = f"[{group}]\n{name} = {module}\n[lightune.tasks]\npolarity = my_package.polarity\n"
    info = tmp_path / "site" / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(points)

    given = recipe(tiny("bert"), "biases", task="polarity", data=rows())
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(given)],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    methods, tasks, shown, result = _objects(done.stdout)
    assert {"biases", "lora", "full"} <= {method["name"] for method in methods["methods"]}
    assert {"polarity", "classification"} <= {task["name"] for task in tasks["tasks"]}
    assert "arXiv:2106.10199" in json.dumps(shown)
    metrics, now, later = result
    assert metrics["accuracy"]["value"] is not None
    assert now == later
    manifest = json.loads((tmp_path / "run" / "adapter" / "lightune.json").read_text())
    assert manifest["method"] == {"name": "biases"}
    assert manifest["task"]["name"] == "polarity"


def _objects(text: str) -> list:
    """Return the JSON values that stand one after the other in `text`."""
    decoder, found, at = json.JSONDecoder(), [], 0
    while (rest := text[at:].lstrip()) != "":
        value, length = decoder.raw_decode(rest)
        found.append(value)
        at = len(text) - len(rest) + length
    return found


PLANTS = {
    "base.py": "class Plant:\n    pass\n\n\nBASE = Plant\n",
    "rose.py": "from {0}.base import Plant\n\n\nclass Rose(Plant):\n    name = 'rose'\n",
}


@pytest.fixture
def plants(request, tmp_path, monkeypatch):
    """Return the name of a package with a base class and one plant."""
    package = f"plants_{request.node.name}"
    (tmp_path / package).mkdir()
    for file, text in {"__init__.py": "", **PLANTS}.items():
        (tmp_path / package / file).write_text(text.format(package))
    monkeypatch.syspath_prepend(tmp_path)
    yield package
    registry.scan.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def plug_in(monkeypatch, plants: str, **members: str) -> None:
    """Let one installed package bring a plant."""

    def load():
        base = sys.modules[f"{plants}.base"].Plant
        return type("Brought", (base,), {"__module__": "their_package", **members})

    def entry_points(group):
        return [SimpleNamespace(load=load)] if group == plants else []

    monkeypatch.setattr(registry, "entry_points", entry_points)


def test_a_plug_in_stands_beside_our_own(plants, monkeypatch):
    plug_in(monkeypatch, plants, name="iris")
    assert list(registry.scan(plants)) == ["iris", "rose"]
    assert registry.find(plants, "iris", "plant").__name__ == "Brought"
    with pytest.raises(ConfigError, match="did you mean `iris`"):
        registry.find(plants, "irs", "plant")


def test_a_name_taken_twice_is_an_error(plants, monkeypatch):
    plug_in(monkeypatch, plants, name="rose")
    with pytest.raises(ConfigError, match="are named 'rose'") as caught:
        registry.scan(plants)
    assert "their_package" in caught.value.found
    assert f"{plants}.rose" in caught.value.found
