"""Regression from a user's file to scores: what it learns, decodes and refuses."""

import json

import pytest
import torch
from transformers.modeling_outputs import SequenceClassifierOutput

from lightune.cli.main import main
from lightune.errors import DataError, ModelError
from lightune.models.tiny import FAMILIES
from lightune.run import Run
from lightune.tasks.regression import Regression
from lightune.types import Batch
from tests.small_runs import small_run
from tests.tasks.records import at, rows

QUICK = ("train.max_steps=2", "train.precision=fp32", "train.engine.threads=1")


def test_what_is_learnt_and_the_way_back():
    task = Regression()
    state = task.learn(rows(1.0, 2.0, 6.0))
    assert state == {"mean": 3.0, "std": pytest.approx((14 / 3) ** 0.5), "pair": False, "notes": []}
    head = task.head(state)
    assert (head.kind, len(head.labels)) == ("regression", 1)
    logits = torch.tensor([[0.0], [1.0], [-1.0]])
    found = task.decode(logits, at(4, 2, 0), state)
    assert [p.index for p in found] == [4, 2, 0]
    assert [p.value for p in found] == pytest.approx(
        [3.0, 3.0 + state["std"], 3.0 - state["std"]], abs=1e-6
    )


def test_the_loss_does_not_depend_on_the_unit():
    task, tokenizer = Regression(), FAMILIES["bert"](Regression().head({}))[1]
    losses = []
    for factor, shift in ((1.0, 0.0), (1000.0, -7.0)):
        records = rows(*(factor * x + shift for x in (1.0, 2.0, 6.0)))
        state = task.learn(records)
        examples = task.encode(records, tokenizer, state, 32)
        targets = task.targets(examples, state, 8)
        assert targets.mean().abs() < 1e-6
        assert targets.std(correction=0) == pytest.approx(1)
        outputs = SequenceClassifierOutput(logits=torch.tensor([[0.3], [0.1], [-2.0]]))
        losses.append(float(task.loss(outputs, Batch({}, targets, [0, 1, 2]), state)))
    expected = ((torch.tensor([0.3, 0.1, -2.0]) - targets) ** 2).mean()
    assert losses == pytest.approx([float(expected)] * 2, rel=1e-5)


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ([], "no training records"),
        ([2.0, 2.0], "all labelled 2"),
        ([2.0, None], "d.csv:3: the label is missing"),
    ],
)
def test_what_cannot_be_learnt(cells, said):
    with pytest.raises(DataError) as error:
        Regression().learn(rows(*cells))
    assert said in str(error.value)
    assert error.value.mend


def test_an_output_that_is_no_number_names_its_record():
    logits = torch.tensor([[0.0], [float("inf")]])
    with pytest.raises(ModelError, match="record 9"):
        Regression().decode(logits, at(8, 9), {"mean": 0.0, "std": 1.0})


def test_scores_against_the_training_mean():
    task = Regression()
    records = rows(1.0, 2.0, 6.0)
    state = task.learn(records)
    found = task.score(task.decode(torch.zeros(3, 1), at(0, 1, 2), state), records, state)
    assert set(found.metrics) == {"r2", "rmse", "mae"}
    assert found.metrics["rmse"].value == pytest.approx(found.baselines["training_mean"]["rmse"])
    assert "undefined" in found.tables["notes"][0]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    file = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    lines = [f"a film {i},the film {i % 4},{i % 5}.5" for i in range(30)]
    file.write_text("sentence1,sentence2,score\n" + "\n".join(lines) + "\n")
    return file


def test_three_commands_for_pairs(pairs, tiny, tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "--task", "regression", "--data", str(pairs), "--model", str(tiny("bert"))]
    more = [word for change in QUICK for word in ("-s", change)]
    assert main([*words, "--out", str(run), "--json", *more]) == 0, capsys.readouterr().err
    trained = json.loads(capsys.readouterr().out)
    assert {"spearman", "rmse", "r2"} <= trained["metrics"].keys()
    assert trained["baselines"]["training_mean"]["rmse"] > 0
    assert main(["evaluate", str(run), str(pairs), "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["records"] == 30
    assert scores["metrics"]["rmse"]["low"] < scores["metrics"]["rmse"]["high"]
    assert main(["predict", str(run), str(pairs), "--out", str(tmp_path / "new.csv")]) == 0
    first = (tmp_path / "new.csv").read_text().splitlines()[0]
    assert first == "sentence1,sentence2,score,prediction"
    assert main(["predict", str(run), "--text", "a film", "--text-pair", "one"]) == 0
    assert "a film / one" in capsys.readouterr().out
    card = (run / "README.md").read_text()
    assert "num_labels=1" in card
    assert 'run.predict([("a text", "the other text")])' in card
    report = json.loads((run / "data_report.json").read_text())["splits"]["train"]
    assert report["labels"] == {}
    assert (report["numbers"]["min"], report["numbers"]["max"]) == (0.5, 4.5)


def test_from_python(tiny, tmp_path):
    table = [{"text": f"number {i}", "label": i / 2} for i in range(20)]
    run = small_run(tmp_path / "run", tiny("gpt2"), task="regression", data=table)
    [row] = Run.open(run.folder).predict("number 3")
    assert isinstance(row["prediction"], float)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,score\na,1.5\nb,high\n", "data.csv:3: column 'score' does not hold a number"),
        ("text,score\na,1.5\nb,inf\n", "data.csv:3: column 'score' does not hold a finite number"),
        (
            "text,score\n" + "".join(f"a {i},1.5\n" for i in range(20)),
            "at least two different numbers",
        ),
        ("text,kind\na,1.5\nb,2.5\n", "no column is recognised as `label`"),
        ("text,score\na,\nb,\n", "no row has a label"),
    ],
)
def test_bad_input(content, said, tiny, tmp_path, capsys):
    file = tmp_path / "data.csv"
    file.write_text(content)
    words = ["train", "--task", "regression", "--data", str(file), "--model", str(tiny("bert"))]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "mend" in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()
