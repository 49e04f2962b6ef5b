"""One writer for each run folder."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lightune.errors import ResourceError, RunError
from lightune.runs import lock
from lightune.runs.lock import writing

HOLD = """
import sys, time
from pathlib import Path
from lightune.runs.lock import writing
with writing(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path):
    notes: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(RunError) as caught, writing(tmp_path, notes.append):
            pass
        assert f"process {holder.pid} on" in str(caught.value)
        assert notes == []
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with writing(tmp_path, notes.append):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert "was killed" in notes[0]
    assert f"process {holder.pid} on" in notes[0]
    assert list(tmp_path.iterdir()) == []


def test_where_nothing_can_be_locked_it_goes_on_and_says_so(tmp_path, monkeypatch):
    def no_locks(handle):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_take", no_locks)
    notes: list[str] = []
    with writing(tmp_path, notes.append):
        pass
    assert len(notes) == 1
    assert "cannot be locked (No locks available)" in notes[0]


def test_a_full_disk_is_told(tmp_path, monkeypatch):
    def full(handle, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock.os, "write", full)
    with pytest.raises(ResourceError, match="disk is full"), writing(tmp_path, print):
        pass


def test_what_is_no_lock_says_so_and_is_taken(tmp_path):
    notes: list[str] = []
    (tmp_path / ".lock").write_text("[1")
    refused = pytest.raises(RunError, match="another process")
    with writing(tmp_path, notes.append), refused, writing(tmp_path, notes.append):
        pass
    assert "it does not say which" in notes[0]
    assert list(Path(tmp_path).iterdir()) == []
