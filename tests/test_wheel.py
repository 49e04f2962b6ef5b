"""A wheel of the project works in a clean environment, from any folder."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from small_runs import rows, write_csv

import lightune

ROOT = Path(__file__).parents[1]


def run(*command: object, cwd: Path, **variables: str) -> str:
    """Return a command's standard output; it sees neither this checkout nor the user's folders."""
    hidden = ("PYTHON", "LIGHTUNE", "VIRTUAL_ENV", "COV")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(hidden)}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=kept | variables, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    there = tmp_path_factory.mktemp("wheel")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", there, ROOT)
    run(*build, cwd=there)
    [file] = there.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def bin_folder(wheel, tmp_path_factory) -> Path:
    """Return the commands of an environment that has the wheel, and the dependencies of ours."""
    there = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(there, with_pip=False)
    paths = sysconfig.get_paths(vars={"base": str(there), "platbase": str(there)})
    # A path in a .pth file is searched, but its own .pth files are not read: the checkout that is
    # installed in our environment stays out.
    ours = sysconfig.get_paths()["purelib"]
    (Path(paths["purelib"]) / "dependencies.pth").write_text(f"{ours}\n")
    python = Path(paths["scripts"]) / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, cwd=there)
    return Path(paths["scripts"])


def test_it_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    parts = {name.split("/")[0] for name in names}
    assert parts == {"lightune", f"lightune-{lightune.__version__}.dist-info"}
    package = {str(p.relative_to(ROOT)) for p in (ROOT / "lightune").rglob("*.py")}
    assert package <= set(names)
    assert "lightune/models/catalogue.yaml" in names
    unwanted = [
        name
        for name in names
        if Path(name).name.startswith("test_") or "tests" in Path(name).parts or ".pyc" in name
    ]
    assert unwanted == []


def test_it_works_in_a_clean_environment(bin_folder, tiny, tmp_path):
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}

    def command(*words: object) -> str:
        return run(bin_folder / "lightune", *words, cwd=tmp_path, **home)

    where = run(
        bin_folder / "python", "-c", "import lightune as l; print(l.__file__)", cwd=tmp_path
    )
    assert Path(where.strip()).is_relative_to(bin_folder.parent), "the wheel, not this checkout"
    assert command("--version") == f"lightune {lightune.__version__}\n"
    models = json.loads(command("models", "--json"))["models"]
    assert {"minilm", "smollm2-135m"} <= {model["name"] for model in models}
    command("init", "mine.yaml")
    write_csv(tmp_path / "data.csv", rows())
    changes = ("train.max_steps=1", "train.precision=fp32", "train.engine.threads=1")
    settings = [word for change in changes for word in ("-s", change)]
    train = ("train", "mine.yaml", "-s", f"model={tiny('bert')}", *settings)
    result = json.loads(command(*train, "--out", "run", "--json"))
    assert result["steps"] == 1
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").is_file()
