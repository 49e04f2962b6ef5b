"""Files that come after training: read by the columns that training read, or told what is amiss."""

import csv
import json

import pytest

from lightune.errors import ConfigError, DataError
from lightune.pipeline import train
from lightune.run import Run
from tests.cli.conftest import ROWS, write_csv

FAST = {"precision": "fp32", "max_steps": 1, "engine": {"threads": 1}}


@pytest.fixture(scope="module")
def trained(home, tmp_path_factory):
    """Return a function from a header and rows to the run trained on them."""
    runs = {}

    def make(*header: str) -> Run:
        if header not in runs:
            folder = tmp_path_factory.mktemp("trained")
            rows = [(i, *[text] * (len(header) - 2), y) for i, (text, y) in enumerate(ROWS)]
            data = write_csv(folder / "train.csv", list(header), rows)
            runs[header] = train(
                {"task": "classification", "model": str(home / "tiny"), "train": FAST}
                | {"data": str(data), "method": "head"},
                out=folder / "run",
                progress="silent",
            )
        return runs[header]

    return make


def test_columns_guessed_in_training_need_not_be_named_again(trained, lightune, tmp_path):
    run = trained("number", "what was said", "which")
    new = write_csv(tmp_path / "new.csv", ["number", "what was said"], [(1, "good"), (2, "bad")])
    status, out, err = lightune("predict", run.folder, new, "--json")
    assert status == 0, err
    found = [row["scores"] for row in json.loads(out)["predictions"]]
    assert found == [row["scores"] for row in run.predict(["good", "bad"])]
    status, out, _ = lightune("predict", run.folder, new, "--out", tmp_path / "out.csv")
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["what was said"] for row in rows] == ["good", "bad"]


def test_a_file_with_other_names_is_guessed_and_that_is_said(trained, lightune, tmp_path):
    run = trained("number", "sentence", "label")
    new = write_csv(tmp_path / "dev.csv", ["content", "label"], ROWS[:6])
    status, _, err = lightune("evaluate", run.folder, new)
    assert status == 0
    assert "text = column 'content' (training read 'sentence')" in err


def test_a_file_without_such_a_column(trained, lightune, tmp_path):
    run = trained("number", "what was said", "which")
    new = write_csv(tmp_path / "new.csv", ["id", "what was sad"], [(1, "good")])
    status, _, err = lightune("predict", run.folder, new)
    assert status == 2
    assert "no column 'what was said' for `text`" in err
    assert "--column text=what was sad" in err.partition("mend:")[2]
    with pytest.raises(DataError) as caught:
        run.predict(new)
    assert caught.value.mend.endswith("columns={'text': 'what was sad'}")
    assert len(run.predict(new, columns={"text": "what was sad"})) == 1
    assert len(run.predict(new, columns={"text": ["id", "what was sad"]})) == 1


def test_a_field_that_the_task_has_not(trained, tmp_path):
    run = trained("number", "sentence", "label")
    new = write_csv(tmp_path / "new.csv", ["sentence"], [("good",)])
    with pytest.raises(ConfigError, match="'txt'"):
        run.predict(new, columns={"txt": "sentence"})
    with pytest.raises(ConfigError, match="none is given"):
        run.evaluate(columns={"text": "sentence"})


def test_a_metric_that_fails_costs_no_trained_weights(home, tmp_path):
    def broken(truth, predicted):
        raise ZeroDivisionError

    recipe = {"task": "classification", "model": str(home / "tiny"), "train": FAST}
    recipe |= {"data": str(home / "train.csv"), "method": "head"}
    with pytest.raises(ZeroDivisionError):
        train(recipe, out=tmp_path / "run", progress="silent", metrics={"broken": broken})
    run = Run.open(tmp_path / "run")
    assert "accuracy" in run.metrics
    counted = run.evaluate(metrics={"records": lambda truth, predicted: float(len(truth))})
    assert counted["metrics"]["records"]["value"] == counted["records"]


def test_scoring_every_n_steps_finds_its_own_records(home, tmp_path):
    settings = {**FAST, "max_steps": 4, "evaluation": {"every": 2}}
    recipe = {"task": "classification", "model": str(home / "tiny"), "train": settings}
    run = train(
        recipe | {"data": str(home / "train.csv"), "method": "head"},
        out=tmp_path / "run",
        progress="silent",
    )
    log = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in log if "validation_macro_f1" in row] == [2, 4]
    assert run.evaluate()["metrics"] == run.metrics


def test_names_of_columns_may_hold_any_character(home, lightune, tmp_path):
    data = write_csv(tmp_path / "a.csv", ["😀 “text”", "y"], ROWS)
    command = ["train", "--data", data, "--task", "classification", "--model", home / "tiny"]
    status, out, err = lightune(*command, "--text", "😀 “text”", "--dry-run", "--json")
    assert status == 0, err
    assert json.loads(out)["data"]["columns"] == {"text": ["😀 “text”"], "label": ["y"]}


class TestPairs:
    @pytest.mark.parametrize("command", ["predict", "evaluate"])
    def test_a_file_that_lacks_the_second_text(self, trained, lightune, tmp_path, command):
        run = trained("number", "text", "text_pair", "label")
        new = write_csv(tmp_path / "new.csv", ["text", "n", "label"], [("good", 1, "pos")])
        status, _, err = lightune(command, run.folder, new)
        assert status == 2
        assert f"{new}: there is no column 'text_pair' for `text_pair`" in err
        assert "columns: text, n, label" in err
        assert "--column text_pair=" in err.partition("mend:")[2]

    @pytest.mark.parametrize(
        ("header", "given", "mend"),
        [
            (("number", "text", "text_pair", "label"), "good", "('a text', 'a text_pair')"),
            (("number", "sentence", "label"), ("good", "bad"), "['a text', …]"),
        ],
    )
    def test_texts_and_pairs_are_not_mixed_up(self, trained, header, given, mend):
        run = trained(*header)
        right = ("a", "b") if isinstance(given, str) else "a"
        with pytest.raises(DataError, match="text 2: the model was trained on") as caught:
            run.predict([right, given])
        assert mend in caught.value.mend
