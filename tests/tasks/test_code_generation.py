"""Programs from a user's file to pass@k: layouts, what is run, when nothing is run."""

import gzip
import json
from pathlib import Path

import pytest

from lightune import seal
from lightune.cli.main import main
from lightune.errors import ConfigErrors, DataError, ResourceError
from lightune.models.tiny import tiny_tokenizer
from lightune.nn import losses
from lightune.recipe import load_recipe
from lightune.run import Run
from lightune.runs.log import read_log
from lightune.tasks import programs, sandbox
from lightune.tasks.base import Resampling
from lightune.tasks.code_generation import CodeGeneration
from lightune.tasks.programs import question_of, read_program, whole_program
from lightune.types import Place, Prediction, Record
from tests.small_runs import small_run

REASON = sandbox.why_not_isolated()
isolated = pytest.mark.skipif(REASON is not None, reason=f"programs cannot be isolated: {REASON}")
SHARED = Path(__file__).parents[3] / "shared" / "data"

MBPP = {
    "prompt": "Write a function to add.",
    "answer": "def add(a, b):\r\n    return a + b\r\n",
    "tests": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "setup": "import math",
}
HUMANEVAL = {
    "prompt": 'import math\n\n\ndef add(a, b):\n    """Add."""\n',
    "answer": "    return a + b\n",
    "tests": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "entry_point": "add",
}


def record(line=1, **values):
    return Record({k: v for k, v in values.items() if v is not None}, Place("d.jsonl", line))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (["assert f()", " "], ["assert f()"]),
        ("assert f()\r\nassert g()", ["assert f()\nassert g()"]),
        ('["assert f()", "assert g()"]', ["assert f()", "assert g()"]),
        ("[f() for f in ()]", ["[f() for f in ()]"]),
        pytest.param("[" * 50_000, ["[" * 50_000], id="deep"),
        (None, []),
        (float("nan"), []),
        ("", []),
    ],
)
def test_layouts_of_tests(cell, expected):
    assert programs.tests_of(record(tests=cell)) == expected


@pytest.mark.parametrize(
    ("written", "program"),
    [
        ("def f(): pass", "def f(): pass"),
        ("Sure:\n```python\ndef f():\n    pass\n```\nIt does.", "def f():\n    pass"),
        ("```\nx = 1\n```\n```\ny = 2\n```", "x = 1"),
        ("```py\nx = 1", "x = 1"),
        ("    return 1\n", "    return 1"),
    ],
)
def test_the_program_in_an_answer(written, program):
    assert read_program(written) == program


def test_what_is_asked():
    row = record(**MBPP)
    assert question_of(row, 0) == "Write a function to add."
    assert question_of(row, 1).endswith("these tests:\nassert add(1, 2) == 3")
    assert question_of(row, 9).count("assert") == 2


@pytest.mark.parametrize(
    ("values", "written", "passes"),
    [
        (MBPP, "def add(a, b): return a + b", True),
        (MBPP, "def add(a, b): return a - b", False),
        (MBPP, "def plus(a, b): return a + b", False),
        (MBPP, "def add(a, b): return int(math.fsum((a, b)))", True),
        (MBPP | {"setup": ["x = 2", "y = 3"]}, "def add(a, b): return a + b + x * 0", True),
        (HUMANEVAL, "    return a + b", True),
        (HUMANEVAL, "    return a - b", False),
        (HUMANEVAL, "    return a + b\n\nprint(1 / 0)\n", True),
        (HUMANEVAL, "    return a + b\n# so\nthis is no program", True),
        (HUMANEVAL, "def add(a, b):\n    return int(math.fsum((a, b)))", True),
        (HUMANEVAL, "", False),
    ],
)
@isolated
def test_what_is_run(values, written, passes):
    outcome = sandbox.run_one(whole_program(record(**values), written), sandbox.Limits(20.0))
    assert (outcome.status == "passed") is passes, outcome


@pytest.mark.parametrize("values", [MBPP, HUMANEVAL])
def test_what_is_learnt_is_the_program_and_its_end(values):
    tokenizer, task = tiny_tokenizer("decoder"), CodeGeneration()
    state = task.fit_tokenizer(tokenizer, task.learn([record(**values)]))
    rows = [record(**values), record(**{**values, "answer": None})]
    known, asked = task.encode(rows, tokenizer, state, 500)
    learnt = [label for label in known.target if label != losses.NO_LABEL]
    assert learnt[-1] == state["end"]
    said = tokenizer.decode(learnt[:-1])
    assert said.strip("\n ") == values["answer"].replace("\r\n", "\n").strip("\n ")
    assert asked.target is None
    assert asked.inputs["input_ids"] == asked.prompt == known.prompt
    assert known.inputs["input_ids"][: len(known.prompt)] == known.prompt
    with pytest.raises(DataError, match=r"d.jsonl:1.*beyond train.max_length"):
        task.encode(rows, tokenizer, state, len(known.prompt) - 1)


@pytest.mark.parametrize(
    ("values", "settings", "said"),
    [
        ({"prompt": "a"}, {}, "d.jsonl:3: nothing to learn"),
        ({"prompt": "a", "answer": "b"}, {"run_tests": True}, "d.jsonl:3: there are no tests"),
        ({"prompt": "a", "answer": "b", "tests": 3}, {"run_tests": True}, "neither a text nor"),
    ],
)
def test_bad_rows(values, settings, said, monkeypatch):
    monkeypatch.setattr(sandbox, "why_not_isolated", lambda: None)
    task, row = CodeGeneration(**settings), record(3, **values)
    with pytest.raises(DataError) as error:
        (task.check_test if settings else task.check)([row], *([{}] if settings else []))
    assert said in error.value.problem
    assert error.value.mend
    if settings:  # rows that are learnt from need no tests, but none is scored without
        task.check([row])
        assert task.truth([row], {}) == ["b"]
        with pytest.raises(DataError, match=said):
            task.score(predictions("b"), [row], {})


def test_an_entry_point_is_a_name():
    with pytest.raises(DataError, match="not the name of a function"):
        whole_program(record(**HUMANEVAL | {"entry_point": "f(); import os"}), "")


def predictions(*values):
    measures = {"loss": 1.0, "tokens": 2, "finished": True}
    return [Prediction(i, value, measures=measures) for i, value in enumerate(values)]


def never(*arguments, **options):
    raise AssertionError("a program was run")


def test_nothing_is_run_unless_allowed(monkeypatch):
    monkeypatch.setattr(sandbox, "run_one", never)
    task = CodeGeneration()
    scores = task.score(predictions("import os"), [record(**MBPP)], {}, intervals=False)
    assert "pass_at_1" not in scores.metrics
    assert "were not run" in scores.tables["notes"][0]


def test_refused_with_the_reason_where_nothing_can_be_isolated(monkeypatch):
    monkeypatch.delenv(sandbox.UNISOLATED, raising=False)
    monkeypatch.setattr(sandbox, "why_not_isolated", lambda: "no such namespaces")
    task = CodeGeneration(run_tests=True)
    for work in (task.check, lambda rows: task.check_test(rows, {})):
        with pytest.raises(ResourceError) as error:
            work([record(**MBPP)])
        assert error.value.found == "no such namespaces"


@isolated
def test_pass_at_k_of_several_programs(monkeypatch):
    good, bad = "def add(a, b): return a + b", "def add(a, b): return 0"
    task = CodeGeneration(run_tests=True, samples=2, decoding={"temperature": 0.8})
    rows = [record(**MBPP), record(2, **HUMANEVAL)]
    made = predictions([good, bad], [bad, "while True: pass\n" * 0 + "    return 1/0"])
    found = task.compare(made, rows, {}, Resampling(intervals=False))
    assert found.metrics["pass_at_1"].value == pytest.approx((0.5 + 0) / 2)
    assert found.metrics["pass_at_2"].value == pytest.approx((1 + 0) / 2)
    assert found.metrics["loss"].value == 1
    assert found.tables["programs"] == {"passed": 1, "failed": 3}
    assert found.tables["isolated"] is True
    assert [row["line"] for row in found.tables["failures"]] == [1, 2, 2]
    kept = found.kept_with(made)
    assert [p.measures["programs_passed"] for p in kept] == [1, 0]
    assert [p.measures["programs_run"] for p in kept] == [2, 2]
    monkeypatch.setattr(sandbox, "run_one", never)  # nor where nothing can be isolated
    monkeypatch.setattr(sandbox, "require", never)
    again = task.compare(kept, rows, {}, Resampling(intervals=False))
    assert again.metrics == found.metrics


def test_several_programs_must_be_drawn():
    with pytest.raises(ConfigErrors, match="would all be the same"):
        load_recipe({"task": {"name": "code_generation", "samples": 3}, "data": "d.jsonl"})


def rows_of(count=10):
    for i in range(count):
        letter = "abcdefghijklmnop"[i]
        tests = [f"assert f == {letter * 3!r}", "assert True"]
        yield {"text": f"what is {letter}?", "code": f"f = {letter * 3!r}", "test_list": tests}


@isolated
def test_programs_learnt_by_heart_pass(tiny, tmp_path, monkeypatch):
    file = tmp_path / "d.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_of()))
    task = {"name": "code_generation", "run_tests": True, "max_new_tokens": 24, "tests_shown": 0}
    data = {"train": str(file), "test": str(file), "overlap": "allow"}
    quick = {"max_steps": 120, "batch_size": 10}
    model = tiny("llama-lm")
    run = small_run(
        tmp_path / "run", model, "full", task=task, data=data, learning_rate=1e-2, **quick
    )
    assert run.metrics["pass_at_1"]["value"] == 1.0, run.summary()["tables"]
    assert run.summary()["tables"]["isolated"]
    monkeypatch.setattr(sandbox, "run_one", never)
    row, *_ = rows = read_log(tmp_path / "run" / "predictions.jsonl")
    assert (row["programs_run"], row["programs_passed"]) == (1, 1)
    assert "scores equal" in seal._scores(run, run.test_records(), rows)


def test_three_commands_without_running_anything(tiny, tmp_path, capsys):
    file, out = tmp_path / "d.jsonl", str(tmp_path / "run")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows_of(12)))
    words = ["train", "--task", "code_generation", "--data", str(file), "--out", out]
    words += ["--model", str(tiny("llama-lm"))]
    changes = ["train.max_steps=1", "train.precision=fp32", "train.engine.threads=1"]
    changes += ["task.max_new_tokens=4", "task.samples=2", "task.decoding.temperature=0.8"]
    assert main([*words, *(w for change in changes for w in ("-s", change))]) == 0
    assert "were not run" in capsys.readouterr().out
    assert main(["evaluate", out, str(file)]) == 0
    capsys.readouterr()
    assert main(["predict", out, "--text", "number 3?", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["predictions"]
    assert len(row["prediction"]) == 2
    assert main(["predict", out, "--text", "number 3?"]) == 0
    assert Run.open(out).metrics["log_likelihood"]


@isolated
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the data sets")
@pytest.mark.parametrize("name", ["mbpp", "humaneval"])
def test_expected_programs_of_real_sets_pass(name):
    if name == "mbpp":
        lines = (SHARED / "mbpp" / "mbpp.jsonl").read_text().splitlines()
    else:
        packed = (SHARED / "humaneval" / "HumanEval.jsonl.gz").read_bytes()
        lines = gzip.decompress(packed).decode().splitlines()
    columns = {field.name: field.guesses for field in CodeGeneration.fields}
    texts = []
    for line in lines[10:16]:
        row = json.loads(line)
        read = {
            f: next((row[g] for g in guesses if g in row), None) for f, guesses in columns.items()
        }
        whole = record(**read)
        texts.append(whole_program(whole, whole.values["answer"]))
    outcomes = sandbox.run_all(texts, sandbox.Limits(20.0))
    assert [o.status for o in outcomes] == ["passed"] * 6, outcomes
