"""Question answering from a user's file to scores: layouts, offsets, no answer, bad input."""

import json

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from lightune.cli.main import main
from lightune.data.kinds import answers
from lightune.engine.token_cache import pack, unpack
from lightune.errors import DataError
from lightune.models.tiny import tiny_tokenizer
from lightune.tasks.answers import Found, span_of
from lightune.tasks.question_answering import NOT_LEARNT, QuestionAnswering
from lightune.types import Batch, Example, Place, Record

QUICK = ("train.max_steps=2", "train.precision=fp32", "train.engine.threads=1", "task.overlap=8")
TEXT = "Paris is in France. Rome is in Italy."


def record(answer, context=TEXT, question="Where is Rome?", line=1, **more):
    values = {"question": question, "context": context, **more}
    if answer is not None:
        values["answer"] = answers(answer)
    return Record(values, Place("d.json", line))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("Rome", [{"text": "Rome", "start": None}]),
        (["Rome", "Italy"], [{"text": "Rome", "start": None}, {"text": "Italy", "start": None}]),
        ([{"text": "Rome", "answer_start": 20}], [{"text": "Rome", "start": 20}]),
        ({"text": ["Rome"], "answer_start": [20]}, [{"text": "Rome", "start": 20}]),
        ({"text": [], "answer_start": []}, []),
        ([], []),
        (1889, [{"text": "1889", "start": None}]),
        ("[]", []),
        ('["Rome", "Italy"]', [{"text": t, "start": None} for t in ("Rome", "Italy")]),
        ('{"text": ["Rome"], "answer_start": [20]}', [{"text": "Rome", "start": 20}]),
        ("[sic] Rome", [{"text": "[sic] Rome", "start": None}]),
        ("", None),
        (None, None),
    ],
)
def test_layouts_of_answers(cell, expected):
    assert answers(cell) == expected


@pytest.mark.parametrize(
    "cell",
    [
        {"text": "Rome"} | {"answer_start": "20"},
        [""],
        [[1]],
        {"text": ["a"], "answer_start": [1, 2]},
    ],
)
def test_cells_that_are_no_answers(cell):
    with pytest.raises(ValueError, match=r"answers|texts"):
        answers(cell)


@pytest.mark.parametrize(
    ("answer", "more", "span", "said"),
    [
        ([{"text": "Italy", "answer_start": 31}], {}, (31, 36), ""),
        ("Italy", {"answer_start": 31.0}, (31, 36), ""),
        ("Italy", {}, (31, 36), ""),
        ([{"text": "Italy", "answer_start": 30}], {}, (31, 36), "mended"),
        ([{"text": "Italy", "answer_start": -1}], {}, (31, 36), "mended"),
        ("is in", {}, (6, 11), "several times"),
        ([{"text": "is in", "answer_start": 5}], {}, None, "not learnt"),
        ("Spain", {}, None, "not learnt"),
        (["Spain", "Italy"], {}, (31, 36), ""),
        ([], {}, None, ""),
    ],
)
def test_offsets_are_checked_mended_and_said(answer, more, span, said):
    found = Found()
    assert span_of(record(answer, **more), found) == span
    notes = found.notes()
    assert bool(notes) == bool(said)
    assert all(said in note and "d.json:1" in note for note in notes)


def test_what_is_learnt_of_each_window():
    tokenizer, task = tiny_tokenizer("cls"), QuestionAnswering(overlap=8)
    long = "so it is. " * 20 + TEXT
    records = [record("Italy", long), record([], long, line=2), record("Spain", long, line=3)]
    state = task.learn(records)
    assert state["unanswerable"]
    assert not state["by_character"]
    assert "d.json:3" in state["notes"][0]
    examples = task.encode(records, tokenizer, state, 48)
    by_record = [[e for e in examples if e.index == i] for i in range(3)]
    assert all(len(windows) > 2 for windows in by_record)
    ends = [e for e in by_record[0] if e.target != [0, 0]]
    for example in ends:
        first, last = example.target
        words = tokenizer.decode(example.inputs["input_ids"][first : last + 1])
        assert words.strip() == "Italy"
    assert ends
    assert all(e.target == [0, 0] for e in by_record[1])
    assert all(e.target == [NOT_LEARNT] * 2 for e in by_record[2])
    unlabelled = task.encode([record(None, long)], tokenizer, state, 48)
    assert all(e.target is None for e in unlabelled)


def test_windows_survive_the_cache():
    task = QuestionAnswering(overlap=8)
    records = [record("Italy", TEXT * 5), record([], TEXT * 4)]
    examples = task.encode(records, tiny_tokenizer("cls"), task.learn(records), 48)
    assert unpack(pack(examples)) == examples


def test_the_loss_is_the_formula_and_does_not_see_padding():
    task, rng = QuestionAnswering(), torch.Generator().manual_seed(0)
    start, end = torch.randn(2, 3, 6, generator=rng)
    targets = torch.tensor([[1, 2], [0, 0], [NOT_LEARNT, NOT_LEARNT]])
    mask = torch.tensor([[1] * 6, [1] * 4 + [0] * 2, [1] * 6])
    outputs = QuestionAnsweringModelOutput(start_logits=start, end_logits=end)
    found = task.loss(outputs, Batch({"attention_mask": mask}, targets, [0, 1, 2]), {})
    each = [
        F.cross_entropy(start[0], targets[0, 0]),
        F.cross_entropy(end[0], targets[0, 1]),
        F.cross_entropy(start[1, :4], targets[1, 0]),
        F.cross_entropy(end[1, :4], targets[1, 1]),
    ]
    torch.testing.assert_close(found, torch.stack(each).mean())


def example(index, text, base):
    places = [None, *([base + i, base + i + 1] for i in range(len(text)))]
    source = {"text": text, "base": base, "none": 0, "places": places}
    return Example(index, {"input_ids": [0] * len(places)}, source=source)


@pytest.mark.parametrize(
    ("none", "bias", "unanswerable", "value"),
    [
        (0.0, 0.0, True, "cd"),
        (9.0, 0.0, True, ""),
        (9.0, 12.0, True, "cd"),
        (9.0, 11.9, True, ""),
        (9.0, 0.0, False, "cd"),
    ],
)
def test_the_best_span_of_all_windows_or_no_answer(none, bias, unanswerable, value):
    logits = torch.zeros(3, 2, 4)
    logits[0, :, 0] = none  # no answer must win in every window of a record
    logits[1, :, 0] = none
    logits[0, 0, 1] = 2.0
    logits[1, 0, 1], logits[1, 1, 2] = 3.0, 3.0
    examples = [example(7, "ab", 0), example(7, "cd", 2), example(8, "ef", 0)]
    state = {"unanswerable": unanswerable}
    found = QuestionAnswering(no_answer_bias=bias).decode(logits, examples, state)
    assert [p.index for p in found] == [7, 8]
    assert found[0].value == value
    assert found[0].measures["start"] == (2 if value else -1)
    assert found[0].measures["margin"] == 6.0 - 2 * none


def test_scores_of_questions_with_and_without_answer():
    task = QuestionAnswering()
    records = [record("Italy"), record([], line=2), record("in France", line=3)]
    state = task.learn(records)
    logits = torch.zeros(3, 2, 4)
    examples = [example(i, text, 0) for i, text in enumerate(("Italy", "xy", "France"))]
    predictions = task.decode(np_padded(logits), examples, state)
    values = ("Italy", "", "France")
    predictions = [p.__class__(p.index, v) for p, v in zip(predictions, values, strict=True)]
    found = task.score(predictions, records, state)
    assert found.metrics["exact_match"].value == pytest.approx(2 / 3)
    assert found.metrics["f1"].value == pytest.approx((1 + 1 + 2 / 3) / 3)
    assert found.metrics["answerable_f1"].value == pytest.approx((1 + 2 / 3) / 2)
    assert found.metrics["unanswerable_accuracy"].value == 1
    assert found.baselines["no_answer"]["f1"] == pytest.approx(1 / 3)


def np_padded(logits):
    return torch.from_numpy(np.pad(logits.numpy(), ((0, 0), (0, 0), (0, 6))))


def test_no_answer_in_its_text_is_an_error():
    with pytest.raises(DataError, match="no answer stands in its text"):
        QuestionAnswering().learn([record("Spain")])


def squad(tmp_path, **changes):
    articles = []
    for i in range(12):
        context = f"film {i} is good. " + "it was late at home. " * 12 + f"number {i} is bad."
        start = context.index(f"film {i}")
        qas = [{"id": f"q{i}", "question": "what is good?"}]
        qas[0]["answers"] = [{"text": f"film {i}", "answer_start": start + (i == 3)}]
        qas.append({"id": f"n{i}", "question": "why?", "is_impossible": True, "answers": []})
        articles.append({"title": str(i), "paragraphs": [{"context": context, "qas": qas}]})
    articles[0]["paragraphs"][0].update(changes)
    file = tmp_path / "squad.json"
    file.write_text(json.dumps({"version": "v2.0", "data": articles}))
    return file


def test_three_commands_on_squads_form(tiny, tmp_path, capsys):
    file, run = squad(tmp_path), tmp_path / "run"
    words = ["train", "--task", "question_answering", "--data", str(file)]
    more = [word for change in (*QUICK, "train.max_length=64") for word in ("-s", change)]
    model = ["--model", str(tiny("bert")), "--out", str(run), "--json"]
    assert main([*words, *model, *more]) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    trained = json.loads(captured.out)
    assert "24 questions of SQuAD's form" in captured.err
    assert "share their context are kept on one side" in captured.err
    assert "1 offsets of answers are wrong and were mended" in captured.err
    assert {"f1", "exact_match"} <= trained["metrics"].keys()
    kept = [json.loads(row) for row in (run / "predictions.jsonl").read_text().splitlines()]
    assert len(kept) == trained["records"]
    assert {row["line"] % 2 for row in kept} == {0, 1}  # both questions of a paragraph
    assert main(["evaluate", str(run), str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 24
    out = tmp_path / "new.jsonl"
    assert main(["predict", str(run), str(file), "--out", str(out)]) == 0
    rows = [json.loads(row) for row in out.read_text().splitlines()]
    assert [row["id"] for row in rows[:2]] == ["q0", "n0"]
    assert all(row["prediction"] in row["context"] for row in rows)
    capsys.readouterr()
    asked = ["--text", "what is good?", "--text-pair", "the film is good"]
    assert main(["predict", str(run), *asked, "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["predictions"]
    assert row["prediction"] in "the film is good"
    assert "AutoModelForQuestionAnswering" in (run / "README.md").read_text()


def test_the_preview_shows_every_window(tiny, tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"task: {{name: question_answering, overlap: 8}}\nmodel: {tiny('bert')}\n"
        f"data: {{train: {squad(tmp_path)}}}\ntrain: {{max_length: 64}}\n"
    )
    assert main(["data", "preview", str(recipe), "--rows", "1", "--json"]) == 0
    views = json.loads(capsys.readouterr().out)["rows"]
    assert len(views) > 2
    assert len({view["line"] for view in views}) == 1
    assert all(view["tokens_cut"] == 0 for view in views)


FLAT = "question,context,answer\n" + "".join(
    f"what {i}?,the film {i} is good,film {i}\n" for i in range(20)
)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("d.csv", FLAT.replace("film 3\n", "cinema\n"), None),
        ("d.csv", FLAT.replace(",film ", ",cinema "), "no answer stands in its text"),
        ("d.csv", "question,answer\nwhat?,that\nwho?,he\n", "recognised as `context`"),
        ("d.csv", FLAT.replace("answer\n", "reply\n", 1), "recognised as `answer`"),
        ("d.jsonl", '{"question": "a", "context": "b", "answers": {"x": 1}}\n', "d.jsonl:1"),
        (
            "d.json",
            '{"data": [{"title": "t", "paragraphs": [{"context": "c", "qas": [{"id": 1}]}]}]}',
            "paragraphs[0].qas[0]: `question` is missing",
        ),
        (
            "d.json",
            '{"data": [{"title": "t", "paragraphs": [{"qas": []}]}]}',
            "`context` is missing",
        ),
    ],
)
def test_bad_input(name, content, said, tiny, tmp_path, capsys):
    file = tmp_path / name
    file.write_text(content)
    words = ["train", "--task", "question_answering", "--data", str(file), "--dry-run"]
    more = [word for change in QUICK for word in ("-s", change)]
    status = main([*words, "--model", str(tiny("bert")), *more])
    message = capsys.readouterr()
    assert "Traceback" not in message.err
    if said is None:
        assert status == 0
        assert "1 questions are read but not learnt" in message.out + message.err
    else:
        assert status == 2
        assert said in message.err
        assert "mend" in message.err
