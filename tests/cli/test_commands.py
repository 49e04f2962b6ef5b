"""Every command on a tiny run: what it prints, its JSON shape, the files it writes."""

import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest

from lightune.run import Run
from tests.cli.conftest import QUICK, ROWS, write_csv


class TestInit:
    def test_writes_a_recipe_that_loads_and_never_overwrites(self, lightune, tmp_path):
        from lightune.recipe import load_recipe

        status, out, _ = lightune("init", tmp_path / "mine.yaml")
        assert (status, f"lightune train {tmp_path / 'mine.yaml'}" in out) == (0, True)
        assert load_recipe(tmp_path / "mine.yaml").method.name == "lora"
        (tmp_path / "mine.yaml").write_text("precious")
        status, _, err = lightune("init", tmp_path / "mine.yaml")
        assert (status, "mine-2.yaml" in err) == (2, True)
        assert (tmp_path / "mine.yaml").read_text() == "precious"

    def test_needs_a_folder_that_exists(self, lightune, tmp_path):
        status, _, err = lightune("init", tmp_path / "no" / "mine.yaml")
        assert (status, "mkdir -p" in err) == (2, True)

    def test_json(self, lightune, tmp_path):
        status, out, _ = lightune("init", tmp_path / "r.yaml", "--json")
        assert (status, json.loads(out)) == (0, {"recipe": str(tmp_path / "r.yaml")})


class TestTrain:
    def test_json_is_what_the_run_says(self, lightune, there, tmp_path):
        status, out, err = lightune(
            *("train", "--data", "train.csv", "--task", "classification", "--model", "tiny"),
            *("--out", tmp_path / "run", "--json", *QUICK),
        )
        summary = json.loads(out)
        assert status == 0
        assert summary == Run.open(tmp_path / "run").summary()
        assert {"run", "metrics", "trainable_parameters", "total_parameters", "seconds"} <= set(
            summary
        )
        assert set(summary["metrics"]["accuracy"]) == {"value", "low", "high"}
        assert "held out" in err

    def test_ends_with_the_next_command(self, lightune, there, tmp_path):
        _, out, _ = lightune(
            *("train", "--data", "train.csv", "--task", "classification", "--model", "tiny"),
            *("--out", tmp_path / "run", *QUICK),
        )
        assert out.splitlines()[-1] == f'next: lightune predict {tmp_path / "run"} --text "…"'
        assert "accuracy" in out

    def test_options_and_overrides_change_a_recipe(self, lightune, there, tmp_path):
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text("task: classification\ndata: train.csv\nmethod: {name: lora, rank: 2}\n")
        status, out, _ = lightune(
            *("train", recipe, "--model", "tiny", "--text", "text", "--label", "label"),
            *("--test", "test.csv", "-s", "method.rank=3", "-s", "data.overlap=allow"),
            *("--dry-run", "--json", *QUICK),
        )
        plan = json.loads(out)
        assert status == 0
        assert "rank: 3" in plan["recipe"]
        assert "test: test.csv" in plan["recipe"]
        assert plan["data"]["splits"]["test"]["rows"] == 10

    def test_several_files_and_text_columns(self, lightune, there, tmp_path):
        for name in "ab":
            write_csv(tmp_path / f"{name}.csv", ["t1", "t2", "y"], [("x", *row) for row in ROWS])
        status, out, _ = lightune(
            *("train", "--data", tmp_path / "a.csv", "--data", tmp_path / "b.csv", "--label", "y"),
            *("--task", "classification", "--text", "t1", "--text", "t2", "--model", "tiny"),
            *("--dry-run", "--json", *QUICK),
        )
        assert status == 0
        assert "text: [t1, t2]" in json.loads(out)["recipe"]

    def test_dry_run_writes_nothing(self, lightune, there, tmp_path, monkeypatch):
        before = sorted(there.rglob("*"))
        status, out, _ = lightune(
            *("train", "--data", "train.csv", "--task", "classification", "--model", "tiny"),
            *("--dry-run", *QUICK),
        )
        assert (status, sorted(there.rglob("*"))) == (0, before)
        assert "nothing was trained" in out.splitlines()[-1]
        assert "peak memory mb" in out

    def test_a_signal_ends_it_with_75_and_a_usable_run(self, there, tmp_path):
        command = [
            *(sys.executable, "-m", "lightune", "train", "--data", "train.csv"),
            *("--task", "classification", "--model", "tiny", "--out", str(tmp_path / "run")),
            *("-s", "train.epochs=100000", "-s", "train.evaluation.log_every=1", *QUICK, "--json"),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            log = tmp_path / "run" / "metrics.jsonl"
            give_up = time.monotonic() + 120
            while not (log.exists() and log.stat().st_size) and time.monotonic() < give_up:
                time.sleep(0.05)
            running.send_signal(signal.SIGINT)
            out, err = running.communicate(timeout=60)
        assert running.returncode == 75, err
        assert json.loads(out)["stopped"] == "SIGINT"
        assert b"Traceback" not in err
        assert Run.open(tmp_path / "run").predict("good")


class TestEvaluate:
    def test_gives_the_scores_that_training_reported(self, lightune, there):
        status, out, _ = lightune("evaluate", "run", "--json")
        assert (status, json.loads(out)["metrics"]) == (0, Run.open("run").metrics)

    def test_json_shape(self, lightune, there):
        report = json.loads(lightune("evaluate", "run", "test.csv", "--json")[1])
        assert report["records"] == 10
        assert set(report["metrics"]["accuracy"]) == {"value", "low", "high"}
        assert (
            json.loads(lightune("evaluate", "run", "test.csv", "--limit", 4, "--json")[1])[
                "records"
            ]
            == 4
        )

    def test_table_has_intervals_and_a_baseline(self, lightune, there):
        out = lightune("evaluate", "run", "test.csv")[1]
        for word in ("accuracy", "macro_f1", "95 % interval", "majority class", "10 records"):
            assert word in out

    def test_standard_output_does_not_depend_on_the_width_of_a_terminal(
        self, lightune, there, monkeypatch
    ):
        monkeypatch.setenv("COLUMNS", "20")
        assert "macro_f1" in lightune("evaluate", "run", "test.csv")[1]


class TestPredict:
    def test_texts(self, lightune, there):
        texts = ["--text", "good", "--text", "[bold]bad"]
        status, out, _ = lightune("predict", "run", *texts, "--json")
        result = json.loads(out)
        assert (status, result["records"]) == (0, 2)
        assert result["predictions"] == Run.open("run").predict(["good", "[bold]bad"])
        shown = lightune("predict", "run", *texts)[1]
        assert "[bold]bad" in shown
        assert "pos" in shown

    def test_standard_input(self, lightune, there, monkeypatch):
        stream = io.TextIOWrapper(io.BytesIO("\ufeffgood\nsehr schön\n".encode()))
        monkeypatch.setattr(sys, "stdin", stream)
        result = json.loads(lightune("predict", "run", "-", "--json")[1])
        assert result["predictions"] == Run.open("run").predict(["good", "sehr schön"])

    @pytest.mark.parametrize(
        ("content", "words"),
        [(b"", "no texts"), (b"\n \n", "no texts"), ("好".encode("gb18030"), "not UTF-8")],
    )
    def test_standard_input_that_is_no_text(self, lightune, there, monkeypatch, content, words):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        status, _, err = lightune("predict", "run", "-")
        assert (status, words in err, "mend:" in err) == (2, True, True)

    NEW = [
        ("7", "a good one", "x"),
        ("8", 'bad, "bad"\nplot', "y"),
        ("9", "", "z"),
        ("10", "=1", ""),
    ]

    @pytest.mark.parametrize("ending", [".csv", ".tsv", ".json", ".jsonl"])
    def test_out_has_the_users_rows_and_ours(self, lightune, there, tmp_path, ending):
        new = write_csv(tmp_path / "new.csv", ["id", "text", "prediction"], self.NEW)
        file = tmp_path / f"out{ending}"
        status, out, err = lightune("predict", "run", new, "--out", file)
        assert (status, out) == (0, "")
        assert "wrote 4 predictions" in err
        assert "1 of 4 texts are empty" in err
        rows = read(file)
        assert [(r["id"], r["text"], r["prediction"]) for r in rows] == self.NEW
        for row, expected in zip(rows, Run.open("run").predict(new), strict=True):
            assert row["lightune_prediction"] == expected["prediction"]
            scores = row.get("scores") or {n: float(row[f"score_{n}"]) for n in ("neg", "pos")}
            assert scores == expected["scores"]
            assert math.isclose(sum(scores.values()), 1, abs_tol=1e-6)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["new.csv", file.name]

    def test_out_never_overwrites(self, lightune, there, tmp_path):
        (tmp_path / "o.csv").write_text("precious")
        status, _, err = lightune("predict", "run", "test.csv", "--out", tmp_path / "o.csv")
        assert (status, "o-2.csv" in err) == (2, True)
        assert (tmp_path / "o.csv").read_text() == "precious"

    @pytest.mark.parametrize(
        ("name", "words"),
        [("o.xlsx", "--out"), ("o", ".csv"), ("no/o.csv", "mkdir -p"), (".", "--out")],
    )
    def test_out_that_cannot_be_written(self, lightune, there, tmp_path, name, words):
        status, _, err = lightune("predict", "run", "test.csv", "--out", tmp_path / name)
        assert (status, words in err.partition("mend:")[2]) == (2, True)

    def test_nothing_is_left_of_a_file_that_failed(self, lightune, there, tmp_path, monkeypatch):
        def full(number):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        status, _, err = lightune("predict", "run", "test.csv", "--out", tmp_path / "o.csv")
        assert (status, "No space left" in err) == (2, True)
        assert list(tmp_path.iterdir()) == []

    def test_a_column_of_another_name_is_named(self, lightune, there, tmp_path):
        new = write_csv(tmp_path / "new.csv", ["a", "b", "c"], [("x", "good", "bad")])
        columns = ["--column", "text=b", "--column", "text=c"]
        status, out, _ = lightune("predict", "run", new, *columns, "--json")
        assert status == 0
        found = json.loads(out)["predictions"][0]["scores"]
        assert found == Run.open("run").predict(["good\nbad"])[0]["scores"]
        assert "good / bad" in lightune("predict", "run", new, *columns)[1]

    @pytest.mark.parametrize("wrong", ["txt=b", "text", "text=", "=b"])
    def test_a_column_must_be_of_a_field(self, lightune, there, wrong):
        status, _, err = lightune("predict", "run", "test.csv", "--column", wrong)
        assert (status, "--column text=COLUMN" in err.partition("mend:")[2]) == (2, True)

    def test_many_rows_are_cut_on_the_terminal_and_it_is_said(self, lightune, there, tmp_path):
        new = write_csv(tmp_path / "new.csv", ["text"], [[f"good {i}"] for i in range(60)])
        out = lightune("predict", "run", new)[1]
        assert "10 more" in out
        assert len(json.loads(lightune("predict", "run", new, "--json")[1])["predictions"]) == 60


def read(file):
    """Return the rows of a written file, all values as text but scores."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".json":
        return json.loads(text)
    if file.suffix == ".jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(io.StringIO(text), delimiter="\t" if file.suffix == ".tsv" else ","))


class TestDoctor:
    @pytest.fixture(autouse=True)
    def _no_measuring(self, monkeypatch, tmp_path):
        monkeypatch.setattr("lightune.engine.plan.measure_here", lambda probe: 0.001)
        monkeypatch.setattr("lightune.engine.plan.home", lambda: tmp_path)  # not the user's own

    def test_json_shape(self, lightune, monkeypatch, tmp_path):
        monkeypatch.setenv("LIGHTUNE_HOME", str(tmp_path))
        status, out, _ = lightune("doctor", "--json")
        found = json.loads(out)
        assert status == 0
        assert set(found) == {"machine", "plan", "kernels_missing", "extras", "models", "cache"}
        assert found["cache"] == {"folder": str(tmp_path), "writable": True}
        assert {"name": "minilm", "cached": False} in found["models"]

    def test_a_missing_extra_is_named_with_its_mend(self, lightune, monkeypatch):
        monkeypatch.setattr(
            "lightune.cli.doctor.requires",
            lambda name: ["torch>=2", "no-such-thing[x]>=1; extra == 'magic'"],
        )
        status, out, _ = lightune("doctor")
        assert status == 0
        assert "missing: no-such-thing" in out
        assert "pip install 'lightune[magic]'" in out

    def test_a_cache_that_cannot_be_written_is_said(self, lightune, monkeypatch):
        monkeypatch.setattr("lightune.cli.doctor.os.access", lambda path, mode: False)
        assert "LIGHTUNE_HOME" in lightune("doctor")[1]


class TestModels:
    def test_list_and_show_tell_the_licence(self, lightune):
        assert "Apache-2.0" in lightune("models")[1]
        page = json.loads(lightune("models", "show", "minilm", "--json")[1])["model"]
        assert (page["name"], page["licence"]) == ("minilm", "Apache-2.0")

    def test_pull_of_a_folder_says_where_it_is(self, lightune, there):
        status, out, _ = lightune("models", "pull", "./tiny", "--json")
        model = json.loads(out)["model"]
        assert (status, model["folder"]) == (0, "tiny")
        assert len(model["weights_sha256"]) == 64


def test_settings_of_a_method_come_from_its_class(lightune):
    page = json.loads(lightune("methods", "show", "lora", "--json")[1])["method"]
    rank = next(setting for setting in page["settings"] if setting["key"] == "rank")
    assert (rank["default"], rank["type"]) == ("8", "whole number")
    assert "Hu et al." in lightune("methods", "show", "lora")[1]
