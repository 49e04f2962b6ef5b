"""A run folder is never overwritten, and is opened only when it is whole."""

import errno
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

from lightune.errors import LightuneError, ResourceError, RunError
from lightune.runs import files
from lightune.runs.folder import REQUIRED, RunFolder, check_free, default_path, free_path


def finished_run(path):
    run = RunFolder.create(path)
    run.adapter.mkdir()
    for name in REQUIRED:
        run.write(run.path / name, {} if name.endswith(".json") else "task: classification")
    return run


class TestCreate:
    @pytest.mark.parametrize("there", ["folder", "empty folder", "file", "dangling link"])
    def test_what_exists_is_refused_and_unharmed(self, tmp_path, there):
        path = tmp_path / "mine"
        if there.endswith("folder"):
            path.mkdir()
        if there == "folder":
            (path / "eval.json").write_text("precious")
        if there == "file":
            path.write_text("precious")
        if there == "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        before = sorted(tmp_path.rglob("*"))
        for act in (RunFolder.create, check_free):
            with pytest.raises(RunError, match="exists already") as caught:
                act(path)
            assert caught.value.mend == f"--out {tmp_path / 'mine-2'}"
        assert sorted(tmp_path.rglob("*")) == before

    def test_parents_are_made(self, tmp_path):
        check_free(tmp_path / "a/b/c")
        assert RunFolder.create(tmp_path / "a/b/c").path.is_dir()

    @pytest.mark.parametrize("path", ["file/mine", "file/a/mine"])
    def test_a_file_in_the_way_is_named(self, tmp_path, path):
        (tmp_path / "file").write_text("")
        for act in (RunFolder.create, check_free):
            with pytest.raises(RunError, match="file is a file"):
                act(tmp_path / path)

    def test_names_by_default(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        made = [RunFolder.create_default("classification", "minilm", "lora").path for _ in "123"]
        assert [path.as_posix() for path in made] == [
            "runs/classification-minilm-lora",
            "runs/classification-minilm-lora-2",
            "runs/classification-minilm-lora-3",
        ]

    def test_default_name_where_no_folder_can_be_made(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "runs").write_text("")
        with pytest.raises(RunError, match="runs is a file"):
            RunFolder.create_default("classification", "minilm", "lora")

    @pytest.mark.parametrize(
        ("model", "name"),
        [
            ("minilm", "minilm"),
            ("org/name", "name"),
            ("org/name@v1.0", "name_v1.0"),
            ("ms:org/name", "name"),
            ("../folder/", "folder"),
            (r"C:\\models\\bert", "bert"),
            ("模型 一", "模型_一"),
            ("..", "model"),
        ],
    )
    def test_default_name_is_one_plain_word(self, model, name):
        assert default_path("classification", model, "lora") == Path(
            f"runs/classification-{name}-lora"
        )

    def test_free_name_goes_on_counting(self, tmp_path):
        for name in ("mine", "mine-2", "rank-16"):
            (tmp_path / name).mkdir()
        assert free_path(tmp_path / "mine-2").name == "mine-3"
        assert free_path(tmp_path / "rank-16").name == "rank-16-2"
        assert free_path(tmp_path / "new").name == "new"


class TestOpen:
    def test_a_finished_run(self, tmp_path):
        run = finished_run(tmp_path / "mine")
        assert run.finished
        assert RunFolder.open(run.path) == RunFolder.open(run.adapter) == run

    @pytest.mark.parametrize("missing", REQUIRED)
    def test_every_missing_file_is_named(self, tmp_path, missing):
        run = finished_run(tmp_path / "mine")
        (run.path / missing).unlink()
        assert not run.finished
        with pytest.raises(RunError) as caught:
            RunFolder.open(run.path)
        assert missing in caught.value.found
        assert caught.value.mend

    @pytest.mark.parametrize(
        ("missing", "problem"),
        [("eval.json", "did not finish"), ("data_report.json", "incomplete")],
    )
    def test_unfinished_is_told_from_incomplete(self, tmp_path, missing, problem):
        run = finished_run(tmp_path / "mine")
        (run.path / missing).unlink()
        with pytest.raises(RunError, match=problem):
            RunFolder.open(run.path)
        assert RunFolder.open(run.path, finished=False) == run

    def test_what_is_no_run(self, tmp_path):
        finished_run(tmp_path / "mine")
        (tmp_path / "file").write_text("")
        (tmp_path / "other").mkdir()
        for path, problem, mend in (
            ("min", "there is no run folder", "mine"),
            ("file", "is a file", "lightune train"),
            ("mine/eval.json", "is a file", str(tmp_path / "mine")),
            ("other", "is not a run folder", "lightune train"),
            ("a/b/c", "there is no run folder", "lightune train"),
        ):
            with pytest.raises(RunError, match=problem) as caught:
                RunFolder.open(tmp_path / path)
            assert mend in caught.value.mend


class TestFiles:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            ({"a": np.float32(0.5), "b": np.int64(3), 1: (1, 2)}, {"a": 0.5, "b": 3, "1": [1, 2]}),
            ({"a": math.nan, "b": math.inf, "c": np.float64("nan")}, dict.fromkeys("abc")),
            (
                {"a": Path("x"), "b": "评论", "c": True, "d": None},
                {"a": "x", "b": "评论", "c": True, "d": None},
            ),
        ],
    )
    def test_json_is_plain(self, tmp_path, value, expected):
        files.write_json(tmp_path / "a.json", value)
        assert json.loads((tmp_path / "a.json").read_bytes()) == expected

    def test_half_a_surrogate_pair_survives(self, tmp_path):
        files.write_jsonl(tmp_path / "a.jsonl", [{"text": "\ud83d x"}])
        assert json.loads((tmp_path / "a.jsonl").read_bytes()) == {"text": "\ud83d x"}

    def test_what_is_no_json_is_a_bug_not_text(self, tmp_path):
        with pytest.raises(TypeError, match="object"):
            files.write_json(tmp_path / "a.json", {"a": object()})
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("failing", ["fsync", "replace"])
    @pytest.mark.parametrize(
        ("code", "error"),
        [(errno.ENOSPC, ResourceError), (errno.EDQUOT, ResourceError), (errno.EROFS, RunError)],
    )
    def test_a_failed_write_leaves_what_was_there(
        self, tmp_path, monkeypatch, failing, code, error
    ):
        path = tmp_path / "eval.json"
        files.write_json(path, {"old": 1})

        def fail(*_):
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(*((os, "fsync") if failing == "fsync" else (Path, "replace")), fail)
        with pytest.raises(error) as caught:
            files.write_json(path, {"new": 2})
        assert "--out" in caught.value.mend
        assert json.loads(path.read_text()) == {"old": 1}
        assert [p.name for p in tmp_path.iterdir()] == ["eval.json"]

    def test_written_before_it_is_named(self, tmp_path, monkeypatch):
        order = []
        real = os.fsync, Path.replace
        monkeypatch.setattr(os, "fsync", lambda fd: (order.append("fsync"), real[0](fd))[1])
        monkeypatch.setattr(Path, "replace", lambda *a: (order.append("replace"), real[1](*a))[1])
        files.write_json(tmp_path / "a.json", {})
        assert order == ["fsync", "replace", "fsync"]

    def test_other_system_errors_stay_what_they_are(self, tmp_path):
        with pytest.raises(FileNotFoundError) as caught:
            files.write_json(tmp_path / "nowhere" / "a.json", {})
        assert not isinstance(caught.value, LightuneError)

    def test_a_run_reads_back_what_it_wrote(self, tmp_path):
        run = finished_run(tmp_path / "mine")
        run.write(run.eval, {"metrics": {}})
        assert run.read(run.eval) == {"metrics": {}}
        assert run.read(run.recipe) == {"task": "classification"}
        run.write(run.predictions, [{"a": 1}, {"b": 2}])
        assert run.predictions.read_text() == '{"a": 1}\n{"b": 2}\n'
