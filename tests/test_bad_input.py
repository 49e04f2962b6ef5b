"""Bad input: every mistake ends with status 2 and a sentence that names it and its mend.

One row of the table is one mistake a user makes; it goes through the command line as theirs does.
Each also must leave nothing behind: no run folder, no part of a file.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from lightune.cli.main import main
from lightune.models.tiny import save_tiny
from tests.bad_input_table import CASES, GOOD, QUICK


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Return a folder with `tiny/` (a model), `good.csv`, and `run/` trained on both."""
    home = tmp_path_factory.mktemp("bad_input")
    save_tiny(home / "tiny", "bert")
    (home / "good.csv").write_text(GOOD)
    (home / "folder").mkdir()
    (home / "folder" / "notes.txt").write_text("no data")
    write_recipe(home / "good.yaml", home, {})
    assert main(["train", str(home / "good.yaml"), "--out", str(home / "run")]) == 0
    return home


def write_recipe(path: Path, home: Path, changes: dict) -> Path:
    """Write a recipe that would work, with some sections changed."""
    recipe = {
        "task": "classification",
        "model": str(home / "tiny"),
        "method": {"name": "lora", "rank": 2},
        "data": {"train": str(home / "good.csv")},
        "train": QUICK,
    }
    path.write_text(yaml.safe_dump(recipe | changes))
    return path


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_is_told_what_to_do(case, home, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(home)
    offline(monkeypatch, tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    places = {"home": home, "out": work / "out", "data": work / "data.csv"}
    places |= {"jsonl": work / "data.jsonl", "recipe": work / "recipe.yaml"}
    if case.data is not None:
        target = places["jsonl" if "{jsonl}" in case.argv else "data"]
        target.write_bytes(case.data.encode() if isinstance(case.data, str) else case.data)
    if case.recipe is not None and "raw" in case.recipe:
        places["recipe"].write_text(case.recipe["raw"])
    elif case.recipe is not None:
        write_recipe(places["recipe"], home, case.recipe)
    before = sorted(work.iterdir()), sorted(home.rglob("*"))
    capsys.readouterr()

    status = main([word.format_map(places) for word in case.argv.split()])

    out, err = capsys.readouterr()
    told = err[err.index("error: ") :]
    assert (status, out) == (2, ""), err
    assert "Traceback" not in err
    assert told.count("error: ") == told.count("found:"), told
    for word in case.words:
        assert word in told, told
    mends = "\n".join(part.partition("mend:")[2] for part in told.split("error: "))
    assert mends.strip(), told
    for word in case.mend:
        assert word in mends, told
    assert (sorted(work.iterdir()), sorted(home.rglob("*"))) == before


def offline(monkeypatch, cache: Path) -> None:
    """Cut this process off the network, and from models that others have fetched."""

    def refuse(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("LIGHTUNE_HOME", str(cache / "cache"))


class TestDamagedRuns:
    """A run folder that is not what training left is refused with the difference named."""

    @pytest.fixture
    def copy(self, home, tmp_path) -> Path:
        return Path(shutil.copytree(home / "run", tmp_path / "copy"))

    def told(self, capsys, run: Path) -> str:
        capsys.readouterr()
        assert main(["predict", str(run), "--text", "x"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "mend:" in err
        return err

    def test_of_another_task(self, copy, capsys):
        recipe = (copy / "recipe.yaml").read_text()
        (copy / "recipe.yaml").write_text(recipe.replace("name: classification", "name: ranking"))
        assert "'ranking'" in self.told(capsys, copy)

    def test_whose_training_did_not_end(self, copy, capsys):
        (copy / "eval.json").unlink()
        assert "did not finish" in self.told(capsys, copy)

    def test_with_a_damaged_adapter(self, copy, capsys):
        weights = copy / "adapter" / "adapter_model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-8])
        assert "adapter_model.safetensors" in self.told(capsys, copy)

    def test_with_another_base_model(self, copy, home, tmp_path, capsys):
        save_tiny(tmp_path / "other", "bert", seed=1)
        recipe = (copy / "recipe.yaml").read_text()
        (copy / "recipe.yaml").write_text(
            recipe.replace(str(home / "tiny"), str(tmp_path / "other"))
        )
        assert "base" in self.told(capsys, copy)


class TestFullDisk:
    def test_while_the_run_is_written(self, home, tmp_path, capsys, monkeypatch):
        def full(number):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        assert main(["train", str(home / "good.yaml"), "--out", str(tmp_path / "run")]) == 2
        err = capsys.readouterr().err
        assert "No space left" in err or "full" in err
        assert "mend:" in err

    @pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare to mount a small disk")
    @pytest.mark.parametrize("size", ["8k", "48k"])
    def test_for_real(self, home, tmp_path, size):
        """A disk of a few pages, which ends with the process; room for the recipe, then not."""
        train = f"train {home}/good.yaml --out {tmp_path}/run --json"
        mount = f"mount -t tmpfs -o size={size} none {tmp_path}"
        probe = subprocess.run(["unshare", "-rm", "sh", "-c", mount], capture_output=True)
        if probe.returncode:
            pytest.skip("this machine lets nobody mount a disk")
        command = f"{mount} && {sys.executable} -m lightune {train}"
        done = subprocess.run(
            ["unshare", "-rm", "sh", "-c", command], capture_output=True, timeout=120
        )
        assert done.returncode == 2, done.stderr
        assert b"Traceback" not in done.stderr
        error = json.loads(done.stdout)["error"]
        assert any(word in error["problem"] for word in ("space", "full", "room"))
        assert "--out" in error["mend"]


def test_all_mistakes_of_a_recipe_are_in_the_json(home, tmp_path):
    """As a user's script sees it: a process of its own, status 2, one object."""
    write_recipe(tmp_path / "r.yaml", home, {"train": {"epochs": -1, "sed": 3}, "modle": "x"})
    done = subprocess.run(
        [sys.executable, "-m", "lightune", "train", str(tmp_path / "r.yaml"), "--json"],
        capture_output=True,
        timeout=120,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    mistakes = json.loads(done.stdout)["error"]["mistakes"]
    assert {mistake["problem"].partition(":")[0] for mistake in mistakes} == {
        "modle",
        "train.epochs",
        "train.sed",
    }
    assert not (tmp_path / "runs").exists()
