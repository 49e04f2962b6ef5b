"""Progress: what is written where, and that standard output stays clean."""

import io

import pytest

from lightune.train import progress
from lightune.train.progress import Progress

STEP = {"step": 5, "epoch": 0.5, "loss": 0.25, "examples_per_s": 120.4}
SCORES = {"step": 10, "epoch": 1.0, "validation_macro_f1": 0.8125, "validation_loss": 0.5}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def show(stream, look="auto", clock=None, monkeypatch=None) -> str:
    if clock:
        monkeypatch.setattr(progress.time, "perf_counter", iter(clock).__next__)
    with Progress(20, look, stream) as shown:
        for step in (1, 5, 10):
            shown.step(step)
            if step == 5:
                shown.log(STEP)
        shown.log(SCORES)
    return stream.getvalue()


def test_lines_every_ten_seconds_and_at_evaluations(monkeypatch, capsys):
    text = show(io.StringIO(), clock=[0.0, 1.0, 6.0, 19.0], monkeypatch=monkeypatch)
    assert text.splitlines() == [
        "step 10/20  loss 0.2500  120 examples/s  0:20 left",
        "step 10  epoch 1.00  validation: macro_f1 0.8125  loss 0.5000",
    ]
    assert capsys.readouterr().out == ""


def test_slow_trainings_show_their_speed():
    slow = STEP | {"examples_per_s": 0.31}
    stream = Terminal()
    with Progress(20, "auto", stream) as shown:
        shown.log(slow)
        shown.step(6)
    assert "0.31 examples/s" in stream.getvalue()


def test_silence(capsys):
    assert show(io.StringIO(), look="silent") == ""
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""


def test_a_bar_on_a_terminal(capsys):
    text = show(Terminal())
    assert "10/20" in text
    assert "loss 0.2500" in text
    assert "120 examples/s" in text
    assert "macro_f1 0.8125" in text
    assert capsys.readouterr().out == ""


def test_standard_error_is_the_default(capsys):
    with Progress(1) as shown:
        shown.log(SCORES)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "macro_f1 0.8125" in captured.err


def test_the_bar_is_left_tidy_after_an_error():
    stream = Terminal()
    with pytest.raises(KeyError), Progress(3, "bar", stream):
        raise KeyError
    assert stream.getvalue().endswith("\x1b[?25h")  # the cursor is visible again
