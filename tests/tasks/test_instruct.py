"""What instruction tuning learns, encodes, generates and scores."""

import json
import math

import pytest
import torch

from lightune.engine.batches import collate
from lightune.errors import ConfigErrors, DataError, ModelError
from lightune.models.load import load
from lightune.models.tiny import FAMILIES, save_tiny, tiny_tokenizer
from lightune.pipeline import train
from lightune.run import Run
from lightune.settings import parse
from lightune.tasks.base import tasks
from lightune.tasks.instruct import Instruct
from lightune.types import HeadSpec, Place, Prediction, Record
from tests.small_runs import lines, recipe, small_run
from tests.tasks.records import at

HEAD = HeadSpec("causal_lm")
ANSWERS = ("good film", "bad", "so dull", "win cash now", "see you at home")
ANSWERS += ("free prize", "great joy", "boring", "call later", "the report")
ROWS = [
    {"prompt": f"what is {letter}?", "completion": answer}
    for letter, answer in zip("abcdefghij", ANSWERS, strict=True)
]


def records(*rows):
    return [Record(row, Place("d.jsonl", i + 1)) for i, row in enumerate(rows)]


PAIR = {"prompt": "what is a?", "answer": "good film"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("lm") / "llama", "llama", HEAD)


@pytest.fixture(scope="module")
def overfitted(folder, tmp_path_factory):
    """A tiny model that has learnt ten records by heart."""
    there = tmp_path_factory.mktemp("overfitted")
    file = there / "d.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    options = {"max_steps": 90, "batch_size": 10, "learning_rate": 1e-2}
    task = {"name": "instruct", "max_new_tokens": 20}
    data = {"train": str(file), "test": str(file), "overlap": "allow"}
    made = recipe(folder, "full", data=data, task=task, **options)
    return train(made, out=there / "run", progress="silent")


class TestOverfittingTenRecords:
    def test_the_model_writes_the_answers_and_stops(self, overfitted):
        assert overfitted.metrics["exact_match"]["value"] == 1.0
        assert overfitted.metrics["rouge_l"]["value"] == 1.0
        assert overfitted.metrics["loss"]["value"] < 0.05
        assert next(iter(overfitted.metrics)) == "exact_match"

    def test_every_record_is_accounted_for(self, overfitted):
        rows = lines(overfitted.folder / "predictions.jsonl")
        assert [row["line"] for row in rows] == list(range(1, 11))
        for row, answer in zip(rows, ANSWERS, strict=True):
            assert row["prediction"] == row["answer"] == answer
            assert row["finished"] is True
            assert row["new_tokens"] == row["tokens"]
            assert "scores" not in row

    def test_saving_and_loading_keeps_predictions_and_template(self, overfitted):
        again = Run.open(overfitted.folder)
        asked = [row["prompt"] for row in ROWS]
        assert [row["prediction"] for row in again.predict(asked)] == list(ANSWERS)
        then = lines(overfitted.folder / "predictions.jsonl")
        scores = again.evaluate()["metrics"]
        assert scores["loss"] == overfitted.metrics["loss"]
        manifest = json.loads((overfitted.adapter / "lightune.json").read_text())
        assert "### Response" in manifest["state"]["chat_template"]
        assert len(then) == 10

    def test_a_shuffled_file_gives_each_record_the_same(self, overfitted):
        made = [{"prompt": r["prompt"], "answer": r["completion"]} for r in ROWS]
        one, other = (
            overfitted.predictor.score(overfitted.records(rows))[1] for rows in (made, made[::-1])
        )
        assert [(p.measures["loss"], p.value) for p in one] == [
            (p.measures["loss"], p.value) for p in other[::-1]
        ]


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma", "gpt_neox"])
def test_batch_and_order_change_little(family):
    model, tokenizer = FAMILIES[family](HEAD)
    task = Instruct()
    made = [{"prompt": f"what {'is ' * n}a?", "answer": f"good film {n}"} for n in range(9)]
    state = task.fit_tokenizer(tokenizer, task.learn(records(*made)))
    examples = task.encode(records(*made), tokenizer, state, 128)

    def sums(rows):
        def targets(some, width):
            return task.targets(some, state, width)

        batch = collate([examples[i] for i in rows], tokenizer.pad_token_id, targets)
        with torch.no_grad():
            return task.logits(task.forward(model, batch, state), batch)

    together = sums(range(9))
    for size in (1, 2, 4):
        order = torch.randperm(9, generator=torch.Generator().manual_seed(size)).tolist()
        for start in range(0, 9, size):
            rows = order[start : start + size]
            assert (sums(rows) - together[rows]).abs().max() < 1e-4


def test_the_loss_is_that_of_transformers_on_the_answers():
    model, tokenizer = FAMILIES["llama"](HEAD)
    task = Instruct()
    made = records(PAIR, {"prompt": "and what is b?", "answer": "bad"})
    state = task.fit_tokenizer(tokenizer, task.learn(made))
    examples = task.encode(made, tokenizer, state, 128)
    batch = collate(
        examples, tokenizer.pad_token_id, lambda rows, width: task.targets(rows, state, width)
    )
    outputs = task.forward(model, batch, state)
    expected = model(**batch.inputs, labels=batch.targets).loss
    torch.testing.assert_close(task.loss(outputs, batch, state), expected)
    [first, second] = task.decode(task.logits(outputs, batch), at(0, 1), state)
    tokens = first.measures["tokens"], second.measures["tokens"]
    assert tokens == tuple(sum(label >= 0 for label in e.target) for e in examples)
    losses = first.measures["loss"], second.measures["loss"]
    mean = sum(a * b for a, b in zip(losses, tokens, strict=True)) / sum(tokens)
    assert mean == pytest.approx(expected.item(), rel=1e-5)


def test_answers_cut_off_whole_are_an_error_that_names_the_record():
    tokenizer = tiny_tokenizer("decoder")
    task = Instruct()
    made = records(PAIR, {"prompt": "what is this? " * 9, "answer": "x"})
    state = task.fit_tokenizer(tokenizer, task.learn(made))
    with pytest.raises(DataError, match=r"^d.jsonl:2: .*beyond train.max_length") as caught:
        task.encode(made, tokenizer, state, 64)
    longer = int(caught.value.mend.partition("=")[2].partition(",")[0])
    assert task.encode(made, tokenizer, state, longer)[1].target[-1] is not None


def test_what_is_cut_is_counted():
    tokenizer = tiny_tokenizer("decoder")
    task = Instruct()
    [whole] = task.encode(records(PAIR), tokenizer, {"layout": "prompt"}, 500)
    [cut] = task.encode(records(PAIR), tokenizer, {"layout": "prompt"}, len(whole) - 3)
    assert (len(cut), cut.dropped, whole.dropped) == (len(whole) - 3, 3, 0)
    assert cut.target == whole.target[:-3]


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([PAIR, {"prompt": "a?"}], "d.jsonl:2: nothing to learn"),
        ([PAIR, {"prompt": "a?", "answer": "  "}], "d.jsonl:2: nothing to learn"),
        ([{"text": "a"}], "no column is recognised"),
        ([{"messages": [{"role": "user", "content": "a"}]}], "d.jsonl:1: nothing to learn"),
    ],
)
def test_rows_that_teach_nothing_are_refused_before_anything_is_loaded(rows, problem):
    with pytest.raises(DataError, match=problem):
        Instruct().check(records(*rows))


def test_a_test_record_that_match_cannot_score_is_refused_before_training(folder, tmp_path):
    task = {"name": "instruct", "match": "number"}
    with pytest.raises(DataError, match=r"task\.match finds nothing"):
        small_run(tmp_path / "run", folder, data=ROWS, task=task)


class TestScore:
    STATE = {"layout": "prompt"}

    def scores(self, task, written, finished=True):
        made = records(*[{"prompt": "a", "answer": f"#### {n}"} for n in range(len(written))])
        predictions = [
            Prediction(
                i, text, measures={"loss": 0.5 * (i + 1), "tokens": 2 + i, "finished": finished}
            )
            for i, text in enumerate(written)
        ]
        return task.score(predictions, made, self.STATE)

    def test_loss_is_per_token_and_the_rest_per_record(self):
        found = self.scores(Instruct(match="number"), ["so 0", "#### 1", "2.0", "no"])
        values = {name: score.value for name, score in found.metrics.items()}
        loss = (0.5 * 2 + 1.0 * 3 + 1.5 * 4 + 2.0 * 5) / 14
        assert values["match"] == 0.75
        assert values["exact_match"] == 0.25
        assert values["loss"] == pytest.approx(loss)
        assert values["perplexity"] == pytest.approx(math.exp(loss))
        assert values["log_likelihood"] == pytest.approx(-loss)
        assert found.metrics["loss"].low < loss < found.metrics["loss"].high
        assert Instruct.deciding in values

    def test_without_texts_only_the_loss_is_scored(self):
        found = self.scores(Instruct(match="number"), [None, None])
        assert list(found.metrics) == ["loss", "perplexity", "log_likelihood"]

    def test_answers_without_end_are_said(self):
        found = self.scores(Instruct(), ["a", "b"], finished=False)
        assert any("2 of 2 answers did not end" in note for note in found.tables["notes"])

    def test_a_loss_that_is_no_number_is_an_error(self):
        with pytest.raises(ModelError, match="not a number"):
            Instruct().decode(torch.tensor([[float("nan"), 1.0]]), at(4), self.STATE)


@pytest.mark.parametrize(
    ("generate", "purposes"),
    [
        ("test", {"test", "predict"}),
        ("never", {"predict"}),
        ("always", {"test", "predict", "validation"}),
    ],
)
def test_when_answers_are_written(generate, purposes):
    tokenizer = tiny_tokenizer("decoder")
    task = Instruct(generate=generate, max_new_tokens=7)
    found = {
        purpose: task.generation(tokenizer, {"end": 5}, purpose)
        for purpose in ("validation", "test", "predict")
    }
    assert {purpose for purpose, how in found.items() if how} == purposes
    assert found["predict"].stop == (2, 5)
    assert found["predict"].max_new_tokens == 7


def test_conversations_of_several_turns_train_and_texts_are_answered(folder, tmp_path):
    rows = [
        {
            "conversations": [
                {"from": "human", "value": f"hi {n}"},
                {"from": "gpt", "value": "good"},
                {"from": "human", "value": "and now"},
                {"from": "gpt", "value": f"the film {n}"},
            ]
        }
        for n in range(8)
    ]
    task = {"name": "instruct", "max_new_tokens": 3}
    run = small_run(tmp_path / "run", folder, data=rows, task=task, evaluation={"every": 1})
    log = lines(run.folder / "metrics.jsonl")
    assert any("validation_log_likelihood" in row for row in log)
    assert not any("validation_exact_match" in row for row in log)
    [answered] = run.predict(["hello"])
    assert answered["new_tokens"] <= 3
    assert len(run.predict(rows)) == 8


def test_settings_are_checked():
    assert tasks()["instruct"] is Instruct
    assert len(Instruct.model_fields) <= 12
    with pytest.raises(ConfigErrors, match="no regular expression"):
        parse(Instruct, {"match": "("}, "task")


@pytest.mark.parametrize(("family", "head"), [("bert", None), ("t5", None), ("bart", None)])
def test_models_that_do_not_write_are_refused(tiny, family, head):
    with pytest.raises(ModelError, match="does not write text from left to right"):
        load(str(tiny(family)), HEAD)


def test_a_checkpoint_without_its_vocabulary_is_refused(tiny):
    with pytest.raises(ModelError, match="no output layer"):
        load(str(tiny("llama")), HEAD)


def test_a_trained_step_is_the_same_with_all_logits(folder, tmp_path):
    runs = [
        small_run(
            tmp_path / way, folder, data=ROWS, task="instruct", engine={"losses": way, "threads": 1}
        )
        for way in ("auto", "full")
    ]
    one, other = (lines(run.folder / "metrics.jsonl") for run in runs)
    assert one[-1]["loss"] == pytest.approx(other[-1]["loss"], rel=1e-5)
