"""`lightune compare` as a user meets it: a table, an answer, one JSON object, a forecast."""

import json

import pytest
import yaml
from small_runs import recipe, rows, write_csv

from lightune.cli.main import main


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture
def small(tiny, tmp_path, monkeypatch):
    """Return a recipe file of quick trainings; the current folder is its own."""
    monkeypatch.chdir(tmp_path)
    data = write_csv(tmp_path / "reviews.csv", rows(count=24))
    made = recipe(tiny("bert"), data=str(data))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")
    return "recipe.yaml"


def test_the_answer_follows_the_table_and_the_report_is_named(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")  # names are wrapped where the terminal is narrow
    words = ["compare", small, "--methods", "head,bitfit", "--folds", "2", "--out", "comparison"]
    assert main(words) == 0
    told = capsys.readouterr()
    for name in ("head", "bitfit", "majority class", "TF-IDF + logistic regression"):
        assert name in told.out
    assert "latency" in told.out
    assert "comparison/report.html" in told.out
    assert "\u2068" not in told.out
    assert "7/7" in told.err or "10/10" in told.err
    assert {file.name for file in (tmp_path / "comparison").iterdir()} >= {
        "recipe.yaml",
        "design.json",
        "trials.jsonl",
        "report.html",
        "report.json",
    }
    assert not list((tmp_path / "comparison").glob("*.bin"))
    assert main([*words, "--json", "--lang", "zh"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["complete"] is True
    assert any("\u4e00" <= sign <= "\u9fff" for sign in "".join(found["answer"]))
    assert len(found["standings"]) == 5
    assert "not run again" in told.err


def test_a_narrow_terminal_shows_fewer_columns_and_whole_words(small, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    words = ["compare", small, "--methods", "head,bitfit", "--folds", "2", "--out", "comparison"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "\nTF-IDF + logistic regression " in told
    assert "\nregression\n" in told
    assert "latency" not in told


def test_settings_of_the_grid_become_contenders(small, capsys):
    words = ["compare", small, "--methods", "lora,head", "--folds", "2", "--out", "out", "--json"]
    assert main([*words, "-s", "grid.method.rank=[2, 4]"]) == 0
    found = json.loads(capsys.readouterr().out)
    names = {s["contender"] for s in found["standings"]}
    assert {"lora rank=2", "lora rank=4", "head"} <= names
    assert [choice["setting"] for choice in found["choices"]] == ["method.rank"]


def test_settings_are_chosen_where_they_are_to_be_tuned(small, tmp_path):
    words = ["compare", small, "--methods", "head", "--folds", "2", "--out", "out"]
    assert main([*words, "-s", "tune.train.learning_rate=[1e-5, 1e-2]"]) == 0
    lines = (tmp_path / "out" / "trials.jsonl").read_text(encoding="utf-8").splitlines()
    tuned = [row["settings"].get("tuned") for row in map(json.loads, lines)]
    assert sum(one is not None for one in tuned) == 2
    assert all(one is None or list(one) == ["train.learning_rate"] for one in tuned)


def test_a_dry_run_forecasts_and_writes_nothing(small, tmp_path, capsys):
    before = sorted(tmp_path.iterdir())
    words = ["compare", small, "--methods", "lora,head", "--folds", "3", "--seeds", "2"]
    assert main([*words, "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["trials"] == 2 * 3 * 2 + 3 * 3
    assert plan["folds"] == [{"train": 16, "test": 8}] * 3
    assert plan["seconds"] > 0
    assert main([*words, "--dry-run"]) == 0
    assert "nothing was trained" in capsys.readouterr().out
    assert sorted(tmp_path.iterdir()) == before


def test_a_recipe_with_a_comparison_can_still_be_trained(small, tmp_path, capsys):
    file = tmp_path / small
    file.write_text(file.read_text("utf-8") + "compare: {methods: [head], folds: 2}\n", "utf-8")
    assert main(["train", small, "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["compare", small, "--out", "out", "--json", "-s", "compare.folds=3"]) == 0
    assert json.loads(capsys.readouterr().out)["folds"] == 3


@pytest.mark.parametrize(
    ("more", "word"),
    [
        (["--methods", "lorra"], "lora"),
        (["--folds", "1"], "folds"),
        (["--budget", "soon"], "30m"),
        (["--lang", "xx"], "zh"),
        (["--group", "autor"], "text"),
        (["--dry-run", "--out", "x"], "--out"),
        (["-s", "grid.method.rank=8"], "list"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_ends_with_2_and_a_mend(small, tmp_path, capsys, more, word):
    assert main(["compare", small, *more]) == 2
    told = capsys.readouterr().err
    assert word in told
    assert "mend:" in told
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_the_task_lacks_is_said_after_the_first_trial(small, tmp_path, capsys):
    words = ["compare", small, "--folds", "2", "--out", "out"]
    assert main([*words, "--metric", "acuracy"]) == 2
    assert "mend:  --metric accuracy" in capsys.readouterr().err
    assert len((tmp_path / "out" / "trials.jsonl").read_bytes().splitlines()) == 1
    assert main([*words, "--metric", "accuracy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metric"] == "accuracy"
