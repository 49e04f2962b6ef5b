"""Programs in the sandbox: what they may not do, how they are stopped, what is left of them."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from lightune.errors import ResourceError
from lightune.tasks import sandbox
from lightune.tasks.sandbox import Limits, run_all, run_one

QUICK = Limits(seconds=20.0, memory_mb=256, disk_mb=4, processes=8)
REASON = sandbox.why_not_isolated()
isolated = pytest.mark.skipif(REASON is not None, reason=f"programs cannot be isolated: {REASON}")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs Linux")


def test_programs_are_isolated_where_the_system_has_namespaces():
    """Else a mistake in the sandbox would look like a machine without them."""
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    words = ["unshare", *own, "--mount", "--pid", "--net", "--fork", "mount", "-t", "tmpfs"]
    try:
        made = subprocess.run([*words, "none", tempfile.gettempdir()], timeout=60)
    except OSError as error:
        pytest.skip(f"no way to ask the system: {error}")
    if made.returncode:
        pytest.skip("the system has no namespaces for this user")
    assert REASON is None


SECRET = "a file of the user's"


@pytest.fixture
def left_behind(tmp_path, monkeypatch):
    """Return a function that gives the processes of this test's programs: those of its own copy
    of the script."""
    script = tmp_path / "own_child.py"
    shutil.copyfile(sandbox._script(), script)
    script.chmod(0o644)
    monkeypatch.setattr(sandbox, "_script", lambda: str(script))

    def running():
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if str(script).encode() in words:
                found.append(words)
        return found

    return running


@pytest.fixture
def secret(tmp_path):
    file = tmp_path / "secret.txt"
    file.write_text(SECRET)
    file.chmod(0o666)
    tmp_path.chmod(0o777)
    return file


@isolated
@pytest.mark.parametrize(
    ("program", "status", "said"),
    [
        ("x = sum(range(10))\nassert x == 45", "passed", ""),
        ("import math, re, json, collections, heapq, itertools, random", "passed", ""),
        ("print('a' * 10**7)\nimport sys\nsys.stderr.write('b' * 10**6)", "passed", ""),
        ("assert 1 == 2, 'no'", "failed", "AssertionError: no"),
        ("def f(:", "failed", "SyntaxError"),
        ("import sys\nsys.exit(0)", "failed", "SystemExit"),
        ("import os\nos._exit(0)", "failed", "ended before its tests did"),
        ("import os\nos.kill(os.getpid(), 9)", "failed", "ended before its tests did"),
        ("input()", "failed", "EOFError"),
        ("x = [0] * 10**9", "failed", "MemoryError"),
        ("def f(): return f()\nf()", "failed", "RecursionError"),
        ("open('f', 'w').write('x')\nassert open('f').read() == 'x'", "passed", ""),
        ("f = open('f', 'wb')\nwhile True: f.write(bytes(10**6))", "failed", "OSError"),
        (
            "for i in range(99): open(str(i), 'wb').write(bytes(10**6))",
            "failed",
            "No space left on device",
        ),
        ("for i in range(9999): open(str(i), 'w')", "failed", "No space left on device"),
        ("import os\nwhile True: os.fork()", "failed", ""),
        (
            "import socket\nsocket.create_connection(('192.0.2.1', 80), 5)",
            "failed",
            "Network is unreachable",
        ),
        ("import socket\nsocket.getaddrinfo('localhost.example', 80)", "failed", "gaierror"),
        ("open('/usr/x', 'w')", "failed", "Read-only file system"),
        ("open('/etc/passwd')", "failed", "FileNotFoundError"),
        ("import os\nos.listdir('/proc')", "failed", "FileNotFoundError"),
        ("import os\nos.listdir('/home')", "failed", "FileNotFoundError"),
        (
            "import os\nassert set(os.environ) <= {'HOME', 'TMPDIR', 'LANG', 'LC_CTYPE'}",
            "passed",
            "",
        ),
        ("import os\nos.setuid(0)", "failed", "Error"),
        ("import os\nos.chroot('/tmp')", "failed", "PermissionError"),
        ("import os\nos.mknod('/tmp/x', 0o60600, 1)", "failed", "PermissionError"),
        (
            "import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0, 'refused'",
            "failed",
            "refused",
        ),
        (
            "import ctypes\nassert ctypes.CDLL(None).mount(0, b'/', 0, 32, 0) == 0, 'refused'",
            "failed",
            "refused",
        ),
    ],
)
def test_what_programs_may_do(program, status, said):
    found = run_one(program, QUICK)
    assert (found.status, said in found.detail) == (status, True), found


@isolated
def test_files_of_the_user_are_not_seen(secret):
    for program in (f"open({str(secret)!r}).read()", f"open({str(secret)!r}, 'w')"):
        assert "FileNotFoundError" in run_one(program, QUICK).detail
    assert secret.read_text() == SECRET


@isolated
@pytest.mark.parametrize(
    "program",
    [
        "while True: pass",
        "import time\ntime.sleep(999)",
        "import signal\nfor s in (2, 15, 24): signal.signal(s, signal.SIG_IGN)\nwhile True: pass",
        "import os, time\nfor _ in range(5):\n    if os.fork() == 0: os.setsid()\ntime.sleep(999)",
    ],
)
def test_programs_without_end_are_stopped_whole(program, left_behind):
    begun = time.monotonic()
    assert run_one(program, Limits(seconds=1.0)).status == "timeout"
    assert time.monotonic() - begun < 100  # the programs want 999 seconds and more
    assert left_behind() == []


@isolated
def test_what_a_program_leaves_running_is_killed(left_behind):
    program = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(999)"
    assert run_one(program, QUICK).status == "passed"
    assert left_behind() == []


@isolated
def test_no_file_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run_one("open('f', 'w').write('x')", QUICK)
    assert list(tmp_path.iterdir()) == []


@linux
@pytest.mark.parametrize("isolates", [pytest.param(True, marks=isolated), False])
def test_whoever_started_it_takes_it_along(left_behind, isolates):
    code = (
        "from lightune.tasks import sandbox as s; import os, threading\n"
        f"s._script = lambda: {sandbox._script()!r}\n"
        "threading.Timer(1.5, lambda: os.kill(os.getpid(), 9)).start()\n"
        f"s.run_one('import time\\ntime.sleep(999)', s.Limits(seconds=600.0), {isolates})\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == -9
    for _ in range(100):
        if not left_behind():
            break
        time.sleep(0.05)
    assert left_behind() == []


FLOOD = """
import os
for number in range(3, 9):
    try: os.write(number, {text})
    except OSError: pass
"""


@isolated
@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("""b'{"end": "refused"}\\n'""", "passed"),
        ("""b'{"end": "refused", "reason": "no"}\\n'""", "passed"),
        ("""b'{"end": "timeout"}\\n'""", "passed"),
        ("bytes(2 * 10**6)", "passed"),
        ("b'no line'", "passed"),
        ("bytes(9 * 10**6)", "failed"),  # more than its disk may hold: no room for the answer
    ],
)
def test_what_a_program_writes_to_whoever_watches_it_says_nothing(text, status):
    assert run_one(FLOOD.format(text=text), QUICK).status == status


@linux
@pytest.mark.parametrize("missing", ["prctl", "unshare", "fork"])
def test_a_sandbox_that_is_not_begun_says_why(tmp_path, monkeypatch, missing):
    """Where the kernel refuses, for good or for want of room, no program has failed."""
    if missing == "unshare" and REASON is not None:
        pytest.skip("nothing is unshared here")
    text = Path(sandbox._script()).read_text()
    broken = {
        "prctl": ("_check(libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)", "_check(libc.prctl(-1)"),
        "unshare": ("_check(libc.unshare(", "_check(libc.unshare(-1) or ("),
        "fork": ("first = os.fork()", "raise BlockingIOError(11, 'no room for a process')"),
    }[missing]
    assert broken[0] in text
    script = tmp_path / "own_child.py"
    script.write_text(text.replace(*broken, 1))
    monkeypatch.setattr(sandbox, "_script", lambda: str(script))
    found = run_one("pass", QUICK, isolated=missing == "unshare")
    assert found.status == "refused"
    assert {"prctl": "prctl: ", "unshare": "unshare: ", "fork": "no room"}[missing] in found.detail
    script.write_text("import os\nos._exit(0)\n")
    assert "without a word" in run_one("pass", QUICK, isolated=False).detail


def test_a_refusal_that_passes_is_no_failed_program(monkeypatch):
    refused = sandbox.Outcome("refused", "no room")
    said = [refused, sandbox.Outcome("passed"), sandbox.Outcome("passed")]
    monkeypatch.setattr(sandbox, "run_one", lambda *rest: said.pop(0))
    assert [o.status for o in run_all(["a", "b"])] == ["passed", "passed"]
    said[:] = [refused, refused]
    with pytest.raises(ResourceError, match="cannot be isolated"):
        run_all(["a"])


@isolated
@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("while True: pass", sandbox.COMPUTED),
        ("import time\ntime.sleep(999)", sandbox.WAITED),
        ("import time\ntime.sleep(1.5)", sandbox.Outcome("passed")),
    ],
)
def test_time_is_what_a_program_computes(program, found, monkeypatch):
    """Else what else runs on the machine would decide whether it passes."""
    if found != sandbox.WAITED:  # a busy machine may take long over a second of computing
        monkeypatch.setattr(sandbox, "WALL", 40.0)
    assert run_one(program, Limits(seconds=1.0)) == found


def test_who_waited_among_others_is_run_alone(monkeypatch):
    running, most = [], []

    def stand_in(program, *rest):
        running.append(program)
        most.append(len(running))
        time.sleep(0.1)
        alone = len(running) == 1 and len(most) > 3
        running.remove(program)
        return sandbox.Outcome("passed") if alone or program == "c" else sandbox.WAITED

    monkeypatch.setattr(sandbox, "usable_cores", lambda: 2)
    monkeypatch.setattr(sandbox, "run_one", stand_in)
    assert [o.status for o in run_all(["a", "b", "c"])] == ["passed"] * 3
    assert max(most) == 2
    assert len(most) == 5


@isolated
def test_a_caller_who_shares_no_files_can_have_programs_run():
    before = os.umask(0o077)
    try:
        assert run_one("import json", QUICK).status == "passed"
    finally:
        os.umask(before)


@isolated
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root")
def test_a_container_without_users_of_their_own_has_one(tmp_path, monkeypatch):
    script = tmp_path / "own_child.py"
    none = "raise OSError(errno.EINVAL, 'no such user')"
    own = "_become(plan['user'])".replace("'", '"')
    script.write_text(Path(sandbox._script()).read_text().replace(own, none))
    assert none in script.read_text()
    script.chmod(0o644)
    monkeypatch.setattr(sandbox, "_script", lambda: str(script))
    assert run_one("import os\nassert os.getuid() == 65534", QUICK).status == "passed"


@isolated
def test_many_programs_keep_their_order():
    done = []
    programs = [f"import time\ntime.sleep({(3 - i) / 20})\nassert {i} % 2" for i in range(4)]
    found = run_all(programs, QUICK, on_done=lambda n, of: done.append((n, of)))
    assert [outcome.status for outcome in found] == ["failed", "passed"] * 2
    assert done == [(1, 4), (2, 4), (3, 4), (4, 4)]


@linux
def test_without_isolation_limits_and_killing_hold(tmp_path, monkeypatch, left_behind):
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    assert run_one("open('f', 'w').write('x')", QUICK, isolated=False).status == "passed"
    assert "MemoryError" in run_one("x = [0] * 10**9", QUICK, isolated=False).detail
    fork = "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(999)\n"
    assert run_one(fork, QUICK, isolated=False).status == "passed"
    assert run_one(fork + "time.sleep(999)", Limits(1.0), isolated=False).status == "timeout"
    assert left_behind() == []
    assert list(own.iterdir()) == []


def test_nothing_runs_where_nothing_can_be_isolated(monkeypatch):
    monkeypatch.delenv(sandbox.UNISOLATED, raising=False)
    monkeypatch.setattr(sandbox, "why_not_isolated", lambda: "no such namespaces")
    with pytest.raises(ResourceError) as error:
        sandbox.require()
    assert error.value.found == "no such namespaces"
    assert f"{sandbox.UNISOLATED}=1" in error.value.mend
    monkeypatch.setenv(sandbox.UNISOLATED, "1")
    assert sandbox.require() is False
    monkeypatch.setattr(sandbox, "why_not_isolated", lambda: None)
    assert sandbox.require() is True


@linux
def test_a_sandbox_that_cannot_be_made_is_no_failed_program(monkeypatch):
    monkeypatch.setattr(sandbox, "SHOWN", ("/dev",))  # no libraries: the interpreter cannot start
    found = run_one("pass", QUICK)
    assert found.status == "refused" if REASON is None else found.status != "passed"
    with pytest.raises(ResourceError, match="cannot be isolated"):
        run_all(["pass"], QUICK)
