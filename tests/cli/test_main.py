"""The command line itself: speed, help, exit statuses, and how every kind of failure reads."""

import io
import json
import os
import pickle
import subprocess
import sys
import time

import pytest
from typer.main import get_command

from lightune.cli import main as cli
from lightune.cli.messages import error_json, error_text, of_environment
from lightune.errors import ConfigError, ConfigErrors, DataError, ResourceError, Stopped


def run(capsys, *argv: str) -> tuple[int, str, str]:
    """Run a command in this process; return its status and what it printed."""
    status = cli.main(argv)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def process(*argv: str, **options) -> subprocess.CompletedProcess:
    """Run a command in a process of its own, as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "lightune", *argv], capture_output=True, timeout=120, **options
    )


def commands(command=None, path=()) -> list[tuple[tuple[str, ...], object]]:
    """Return every command with the words that call it."""
    command = command or get_command(cli.app)
    found = [(path, command)]
    for name, inner in getattr(command, "commands", {}).items():
        found += commands(inner, (*path, name))
    return found


class TestHelp:
    def test_answers_within_a_second_without_torch(self):
        code = (
            "import sys; from lightune.cli.main import main; main(['--help']);"
            "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'sklearn')))"
        )
        seconds = []
        for _ in range(3):  # the best of three: the machine has other things to do as well
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
            seconds.append(time.perf_counter() - start)
            assert done.returncode == 0, "torch, transformers or sklearn was imported"
        assert min(seconds) < 1.0
        assert b"Lightweight fine-tuning" in done.stdout

    @pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
    def test_every_command_has_an_example_of_itself(self, capsys, path):
        status, out, err = run(capsys, *path, "--help")
        assert (status, err) == (0, "")
        assert "Example:\n" in out
        assert " ".join(("    lightune", *path)) in out

    @pytest.mark.parametrize("path", [p for p, c in commands() if p and not hasattr(c, "commands")])
    def test_every_command_takes_json(self, capsys, path):
        assert "--json" in run(capsys, *path, "--help")[1]

    def test_no_words_print_the_help(self, capsys):
        assert run(capsys)[:2] == run(capsys, "--help")[:2]

    def test_version(self, capsys):
        from lightune import __version__

        assert run(capsys, "--version") == (0, f"lightune {__version__}\n", "")

    def test_listings_do_not_need_the_word_list(self, capsys):
        assert run(capsys, "methods") == run(capsys, "methods", "list")
        assert json.loads(run(capsys, "tasks", "--json")[1])["tasks"][0]["name"]


WRONG_COMMAND_LINES = [
    (["trian"], "lightune trian", "lightune train"),
    (["methods", "shwo", "lora"], "lightune methods shwo", "lightune methods show"),
    (["frobnicate"], "frobnicate", "lightune --help"),
    (["train", "--modle", "minilm"], "--modle", "`--model`"),
    (["predict"], "RUN", "lightune predict --help"),
    (["evaluate"], "RUN", "lightune evaluate --help"),
    (["train", "--model"], "--model", "lightune train --help"),
    (["evaluate", "runs/x", "f.csv", "--limit", "many"], "--limit", "lightune evaluate --help"),
    (["methods", "show", "lroa"], "'lroa'", "`lora`"),
    (["tasks", "show", "clasification"], "'clasification'", "`classification`"),
    (["models", "show", "minilmm"], "'minilmm'", "minilm"),
    (["train"], "recipe or a data file", "--data FILE"),
    (["predict", "runs/x", "a.csv", "--text", "b"], "not both", "--text"),
    (
        ["predict", "runs/x", "--text", "a", "--text-pair", "b", "--text-pair", "c"],
        "pair",
        "--text",
    ),
]


@pytest.mark.parametrize(
    ("argv", "problem", "mend"),
    WRONG_COMMAND_LINES,
    ids=[" ".join(w[0]) for w in WRONG_COMMAND_LINES],
)
class TestWrongCommandLine:
    def test_exits_2_with_problem_found_and_mend(self, capsys, argv, problem, mend):
        status, out, err = run(capsys, *argv)
        assert (status, out) == (2, "")
        assert problem in err.splitlines()[0]
        assert mend in err.partition("mend:")[2]

    def test_with_json_prints_the_same_as_one_object(self, capsys, argv, problem, mend):
        status, out, err = run(capsys, argv[0], "--json", *argv[1:])
        error = json.loads(out)["error"]
        assert status == 2
        assert problem in error["problem"]
        assert mend in error["mend"]
        assert error["problem"] in err


def failing(error: BaseException):
    """Return a stand-in for a command's body that fails."""

    def fail(*args, **kwargs):
        raise error

    return fail


FAILURES = [
    (DataError("bad row", "x", "mend it"), 2, "error: bad row"),
    (ConfigErrors([ConfigError("one"), ConfigError("two")]), 2, "error: one\n\nerror: two"),
    (Stopped("stopped by SIGTERM", mend="go on"), 75, "stopped: stopped by SIGTERM"),
    (KeyboardInterrupt(), 130, "stopped: interrupted at once; what was saved is whole"),
    (OSError(28, "No space left on device", "runs/x"), 2, "error: runs/x: No space left"),
    (PermissionError(13, "Permission denied", "/root/x"), 2, "error: /root/x: Permission denied"),
    (MemoryError(), 2, "error: the machine ran out of memory"),
    (KeyError("oops"), 1, "error: this is a bug of Lightune"),
]


@pytest.mark.parametrize(("error", "status", "text"), FAILURES, ids=[repr(f[0]) for f in FAILURES])
def test_every_failure_has_its_status_and_no_traceback(capsys, monkeypatch, error, status, text):
    monkeypatch.setattr("lightune.methods.base.methods", failing(error))
    got, out, err = run(capsys, "methods", "list", "--json")
    assert (got, "Traceback" in err) == (status, False)
    assert err.startswith(text)
    assert set(json.loads(out)) == {"error"}


def test_a_bug_shows_its_traceback_when_asked_to(monkeypatch):
    monkeypatch.setenv("LIGHTUNE_DEBUG", "1")
    monkeypatch.setattr("lightune.methods.base.methods", failing(KeyError("oops")))
    with pytest.raises(KeyError, match="oops"):
        cli.main(["methods"])


def test_a_full_disk_is_known_by_the_words_of_safetensors():
    error = of_environment(RuntimeError("I/O error: No space left on device (os error 28)"))
    assert isinstance(error, ResourceError)
    assert "--out" in error.mend


class TestMessages:
    def test_no_part_is_lost_where_the_error_is_also_an_os_error(self):
        error = pickle.loads(pickle.dumps(ResourceError("problem", "found", "mend")))
        assert (error.problem, error.found, error.mend) == ("problem", "found", "mend")

    def test_control_characters_of_the_data_are_shown_not_obeyed(self):
        assert "\x1b" not in error_text(DataError("cell \x1b[2J\r is bad"))
        assert r"\x1b[2J\r" in error_text(DataError("cell \x1b[2J\r is bad"))

    def test_a_megabyte_is_cut(self):
        assert len(error_text(DataError("x", found="a" * 10**6))) < 2000

    def test_lines_of_one_part_stand_below_each_other(self):
        text = error_text(DataError("x", found="first\n     second"))
        assert text.splitlines() == ["error: x", "  found: first", "         second"]

    def test_all_mistakes_are_in_the_json(self):
        error = ConfigErrors([ConfigError("one", "1", "a"), ConfigError("two", "2", "b")])
        assert error_json(error)["error"]["mistakes"] == [
            {"problem": "one", "found": "1", "mend": "a"},
            {"problem": "two", "found": "2", "mend": "b"},
        ]


class TestAsAProcess:
    def test_a_mistake_exits_2_without_a_traceback(self):
        done = process("trian")
        assert done.returncode == 2
        assert b"did you mean `lightune train`?" in done.stderr
        assert b"Traceback" not in done.stderr

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "gbk"])
    def test_a_terminal_without_unicode_does_not_crash(self, encoding):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        for argv, status in ((["models"], 0), (["models", "show", "类🙂", "--json"], 2)):
            done = process(*argv, env=environment)
            assert (done.returncode, b"Traceback" in done.stderr) == (status, False)
        assert "类🙂" in json.loads(done.stdout.decode(encoding))["error"]["problem"]

    def test_a_reader_that_stops_early_is_no_error(self):
        with subprocess.Popen(
            [sys.executable, "-m", "lightune", "models", "show", "minilm"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as running:
            running.stdout.close()
            err = running.stderr.read()
        assert (running.returncode, err) == (0, b"")

    def test_json_keeps_out_what_others_print(self):
        code = """
import os, sys, lightune.models.catalogue as module
real = module.catalogue
def noisy():
    print("from Python"); os.write(1, b"from C\\n"); return real()
module.catalogue = noisy
from lightune.cli.main import main
sys.exit(main(["models", "--json"]))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
        assert json.loads(done.stdout)["models"]
        assert b"from Python" in done.stderr
        assert b"from C" in done.stderr


def test_text_and_tables_need_no_unicode(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stream)
    assert cli.main(["models"]) == 0
