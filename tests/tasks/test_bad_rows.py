"""Bad rows of every task, from the command line: an error with file, line and mend, or a counted
line, and never a row that is gone without a word."""

import json

import pytest

from lightune.cli.main import main

QUICK = ("train.max_steps=1", "train.precision=fp32", "train.engine.threads=1")
ANSWER = {"role": "assistant", "content": "yes"}
ASKED = {"role": "user", "content": "is it?"}
LONG = "the film is good " * 60


def chat(*turns):
    return {"messages": list(turns)}


def good(task):
    """Return rows that nothing is wrong with, in English and in Chinese."""
    rows = {
        "instruct": {"prompt": "is it? {}", "completion": "yes, 是的 {}"},
        "language_modeling": {"text": "the film 电影 {}"},
        "translation": {"source": "film {}", "target": "电影 {}"},
        "token_classification": {"tokens": ["film", "电", "{}"], "tags": ["O", "B-X", "O"]},
        "question_answering": {
            "question": "哪 {}?",
            "context": "电影 {} is good",
            "answers": "good",
        },
        "code_generation": {"prompt": "做 {}", "code": "x = {}", "test_list": ["assert x"]},
    }
    text = json.dumps(rows[task], ensure_ascii=False)
    return [json.loads(text.replace("{}", str(i))) for i in range(12)]


MODELS = {"token_classification": "bert", "question_answering": "bert", "translation": "t5-seq2seq"}


def dry_run(tiny, tmp_path, task, rows, *changes, model=None):
    """Return the status of `train --dry-run` on some rows."""
    file = tmp_path / "d.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    folder = str(tiny(model or MODELS.get(task, "llama-lm")))
    words = ["train", "--task", task, "--data", str(file), "--model", folder, "--dry-run"]
    words += [word for change in (*QUICK, *changes) for word in ("-s", change)]
    return main([*words, "--out", str(tmp_path / "run")])


@pytest.mark.parametrize("task", ["instruct", "token_classification", "question_answering"])
def test_languages_may_be_mixed(tiny, tmp_path, capsys, task):
    status = dry_run(tiny, tmp_path, task, good(task))
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert "of 12 rows held out" in captured.out


CASES = [
    ("instruct", chat(ASKED, ASKED, ANSWER), (), "d.jsonl:13: turn 2 is the user's"),
    ("instruct", chat(ANSWER, ASKED), (), "d.jsonl:13: turn 1 is the assistant's"),
    ("instruct", chat(ASKED, {"role": "robot", "content": "x"}), (), "nobody is known as 'robot'"),
    ("instruct", chat(ASKED, {"role": "assistant"}), (), "d.jsonl:13: turn 2 has no text"),
    ("instruct", chat(ASKED), (), "d.jsonl:13: nothing to learn"),
    ("instruct", {"prompt": "", "completion": "yes"}, (), "d.jsonl:13: nothing to learn"),
    ("instruct", {"prompt": "is it?", "completion": " "}, (), "d.jsonl:13: nothing to learn"),
    (
        "instruct",
        {"prompt": LONG, "completion": "yes"},
        ("train.max_length=64", "data.test=0"),
        "d.jsonl:13: nothing to learn: all of the answer lies beyond train.max_length",
    ),
    ("translation", {"source": "a", "target": ""}, (), "d.jsonl:13: nothing to learn"),
    ("translation", {"source": "a", "target": ["b", ""]}, (), "neither a text nor a list of texts"),
    (
        "token_classification",
        {"tokens": ["a", "b"], "tags": ["O"]},
        (),
        "d.jsonl:13: there are not as many tags",
    ),
    ("token_classification", {"tokens": "a b", "tags": "O"}, (), "found: 1 tags; tokens: 2"),
    (
        "question_answering",
        {"question": "a", "context": "b", "answers": {"x": 1}},
        (),
        "d.jsonl:13",
    ),
    ("code_generation", {"prompt": "a", "code": ""}, (), "d.jsonl:13: nothing to learn"),
    (
        "code_generation",  # drawn for the test: rows that are learnt from need no tests
        {"prompt": "a", "code": "b"},
        ("task.run_tests=true", "data.test=0.9"),
        "no tests to run",
    ),
]


@pytest.mark.parametrize(
    ("task", "row", "changes", "said"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_a_bad_row_is_named_with_its_mend(tiny, tmp_path, capsys, task, row, changes, said):
    assert dry_run(tiny, tmp_path, task, [*good(task), row], *changes) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "mend:" in message
    assert "Traceback" not in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("task", "row", "changes", "said"),
    [
        ("token_classification", {"tokens": [], "tags": []}, (), "left out for an empty text: 1"),
        ("token_classification", {"tokens": ["a"], "tags": None}, (), "left out for no label: 1"),
        (
            "question_answering",
            {"question": "a", "context": "b", "answers": "c"},
            ("data.test=0",),
            "1 questions are read but not learnt",
        ),
        (
            "translation",
            {"source": "a", "target": LONG},
            ("train.max_length=64", "data.test=0"),
            "1 rows cut at 64",
        ),
        (
            "instruct",
            {"prompt": "a", "completion": LONG},
            ("train.max_length=90", "data.test=0"),
            "1 rows cut at 90",
        ),
    ],
)
def test_what_is_left_out_or_cut_is_counted(tiny, tmp_path, capsys, task, row, changes, said):
    status = dry_run(tiny, tmp_path, task, [*good(task), row], *changes)
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert said in captured.out + captured.err


def test_a_decoder_without_pad_token_is_given_one_and_it_is_said(tiny, tmp_path, capsys):
    assert dry_run(tiny, tmp_path, "instruct", good("instruct")) == 0
    assert "the model has no pad token" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("task", "model", "said"),
    [
        ("instruct", "bert", "does not write text from left to right"),
        ("code_generation", "t5-seq2seq", "does not write text from left to right"),
        ("translation", "bert", "does not write text from left to right"),
        ("question_answering", "gemma", "has no question answering head"),
    ],
)
def test_a_model_without_the_head_is_refused(tiny, tmp_path, capsys, task, model, said):
    assert dry_run(tiny, tmp_path, task, good(task), model=model) == 2
    message = capsys.readouterr().err
    assert said in message
    assert "mend:" in message
