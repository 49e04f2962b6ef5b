"""The log keeps every whole line, through crashes and full disks."""

import os
import subprocess
import sys

import pytest

from lightune.errors import ResourceError, RunError
from lightune.runs.log import MetricsLog, read_log

ROWS = [{"step": step, "loss": 1 / step} for step in range(1, 6)]


def test_every_line_is_there_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for number, row in enumerate(ROWS, start=1):
            log.write(row)
            assert read_log(path) == ROWS[:number]


@pytest.mark.parametrize("cut", range(1, 20))
def test_a_torn_last_line_is_left_out_and_cut_off(tmp_path, cut):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(path) as log:
        for row in ROWS:
            log.write(row)
    os.truncate(path, path.stat().st_size - cut)
    assert read_log(path) == ROWS[:4]
    with MetricsLog(path) as log:
        log.write({"step": 9})
    assert read_log(path) == [*ROWS[:4], {"step": 9}]


@pytest.mark.parametrize("damage", [b"x", b"[1]", b"", b"\xff"])
def test_damage_before_the_last_line_is_an_error(tmp_path, damage):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + damage + b'\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"metrics\.jsonl:2: not a line of a log"):
        read_log(path)


def test_a_missing_log_is_an_error(tmp_path):
    with pytest.raises(RunError, match="missing"):
        read_log(tmp_path / "metrics.jsonl")


def test_numbers_that_are_not_finite_are_null(tmp_path):
    with MetricsLog(tmp_path / "metrics.jsonl") as log:
        log.write({"loss": float("nan")})
    assert read_log(tmp_path / "metrics.jsonl") == [{"loss": None}]


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from lightune.runs.log import MetricsLog
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
said = []
log = MetricsLog(path, on_problem=said.append)
log.write({"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, resource.RLIM_INFINITY))
for step in (2, 3):
    log.write({"step": step})
assert path.read_bytes() == b'{"step": 1}\\n', path.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
log.write({"step": 4})
log.close()
assert log.lost == 2
assert len(said) == 1, said
assert "going on" in said[0]
"""


def test_training_survives_a_full_disk_and_is_told_once(tmp_path):
    """The system cuts a line in the middle (a file-size limit); no torn line stays."""
    path = tmp_path / "metrics.jsonl"
    subprocess.run([sys.executable, "-c", FULL_DISK, str(path)], check=True, timeout=60)
    assert read_log(path) == [{"step": 1}, {"step": 4}]


def test_a_disk_full_from_the_start_is_an_error(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    with pytest.raises(FileNotFoundError):
        MetricsLog(folder / "metrics.jsonl")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.open", fail)
    with pytest.raises(ResourceError, match="disk is full"):
        MetricsLog(tmp_path / "metrics.jsonl")
