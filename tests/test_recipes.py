"""Every recipe in recipes/ trains, with a tiny random model in place of the hub's."""

from pathlib import Path

import pytest

from lightune.cli.main import main
from lightune.recipe import load_recipe
from lightune.run import Run

ROOT = Path(__file__).parents[1]
RECIPES = [p for p in sorted((ROOT / "recipes").glob("*.yaml")) if "sms_spam.tsv" in p.read_text()]

SCRIPT = {
    "bert_lora.yaml": {
        "model": "bert-base-uncased",
        "method": {"rank": 8, "alpha": 32.0, "targets": ("query", "value")},
        "train": {"epochs": 3.0, "batch_size": 16, "learning_rate": 2e-5},
    },
    "distilbert_full.yaml": {
        "model": "distilbert-base-uncased",
        "method": {"name": "full"},
        "train": {"epochs": 3.0, "batch_size": 16, "max_length": 128},
        "optimizer": {"warmup": 500, "weight_decay": 0.01},
    },
}
"""What the scripts did that these two recipes repeat."""

QUICK = (
    *("train.max_steps=1", "train.batch_size=4", "train.precision=fp32", "train.engine.threads=1"),
    *("data.limit=20", "data.test=0.02"),
)


def test_there_are_recipes():
    assert set(SCRIPT) | {"sms_spam.yaml"} <= {path.name for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_a_recipe_trains(tiny, tmp_path, monkeypatch, capsys, path):
    monkeypatch.chdir(ROOT)
    family = "distilbert" if "distilbert" in load_recipe(path).model else "bert"
    changes = [f"model={tiny(family)}", *QUICK]
    words = ["train", str(path), "--out", str(tmp_path / "run")]
    status = main([*words, *(word for change in changes for word in ("-s", change))])
    assert status == 0, capsys.readouterr().err
    run = Run.open(tmp_path / "run")
    assert run.summary()["steps"] == 1
    assert run.labels == ["ham", "spam"]
    assert run.summary()["records"] > 50


@pytest.mark.parametrize("name", SCRIPT)
def test_the_classic_scripts_settings(name):
    recipe, expected = load_recipe(ROOT / "recipes" / name), SCRIPT[name]
    assert recipe.model == expected["model"]
    parts = {
        "method": recipe.method,
        "train": recipe.train,
        "optimizer": recipe.train.optimizer,
    }
    for part, values in expected.items():
        if part == "model":
            continue
        for key, value in values.items():
            found = getattr(parts[part], key)
            assert (tuple(found) if isinstance(found, list) else found) == value, (part, key)


def test_what_init_writes_trains(tiny, tmp_path, monkeypatch, capsys):
    from small_runs import rows, write_csv

    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine.yaml"]) == 0
    write_csv(tmp_path / "data.csv", rows())
    changes = [f"model={tiny('bert')}", *(c for c in QUICK if not c.startswith("data."))]
    status = main(
        ["train", "mine.yaml", "--out", "run", *(w for change in changes for w in ("-s", change))]
    )
    assert status == 0, capsys.readouterr().err
    assert Run.open("run").summary()["records"] == 8


@pytest.mark.parametrize(
    ("name", "metric"),
    [("similarity.yaml", "rmse"), ("questions.yaml", "f1"), ("names.yaml", "precision")],
)
def test_a_recipe_of_another_task_trains(tiny, tmp_path, monkeypatch, capsys, name, metric):
    monkeypatch.chdir(ROOT)
    changes = [f"model={tiny('bert')}", "train.max_steps=1", "train.precision=fp32"]
    changes += ["train.engine.threads=1", "train.max_length=128"]
    words = ["train", str(ROOT / "recipes" / name), "--out", str(tmp_path / "run")]
    status = main([*words, *(word for change in changes for word in ("-s", change))])
    assert status == 0, capsys.readouterr().err
    assert metric in Run.open(tmp_path / "run").metrics
