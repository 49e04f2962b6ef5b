"""A tiny model, its data and one run trained through the command line."""

import csv
from pathlib import Path

import pytest

from lightune.cli.main import main
from lightune.models.tiny import save_tiny

WORDS = {"pos": "good", "neg": "bad"}
ROWS = [
    (f"{['so', 'very', 'a', 'the'][i % 4]} {WORDS[label]} film {i}", label)
    for i in range(20)
    for label in WORDS
]
QUICK = ["-s", "train.precision=fp32", "-s", "train.engine.threads=1"]


def write_csv(path: Path, header: list[str], rows: list) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.fixture(scope="session")
def home(tmp_path_factory) -> Path:
    """Return a folder with `tiny/` (a model), `train.csv`, `test.csv` and `run/`."""
    home = tmp_path_factory.mktemp("home")
    save_tiny(home / "tiny", "bert")
    write_csv(home / "train.csv", ["text", "label"], ROWS)
    write_csv(home / "test.csv", ["text", "label"], ROWS[:10])
    status = main(
        [
            *("train", "--task", "classification", "--data", str(home / "train.csv")),
            *("--model", str(home / "tiny"), "--method", "full", "--out", str(home / "run")),
            *("-s", "train.epochs=12", "-s", "train.learning_rate=5e-3", *QUICK),
        ]
    )
    assert status == 0
    return home


@pytest.fixture
def there(home, monkeypatch) -> Path:
    """Stand in the folder of `home`, as a user would."""
    monkeypatch.chdir(home)
    return home


@pytest.fixture
def lightune(capsys, monkeypatch):
    """Return a function that runs a command and gives its status, output and messages."""
    monkeypatch.setenv("COLUMNS", "120")  # tables fold where there is less room

    def run(*argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in argv])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
