"""The environment names what decides a result, and nobody's machine by name."""

import getpass
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lightune.runs import environment as module
from lightune.runs.environment import environment

X86 = "processor: 0\nmodel name\t: A CPU v4\nflags\t\t: fpu avx2 amx_tile avx512_bf16\n"
ARM = "processor: 0\nFeatures\t: fp asimd i8mm bf16\nModel\t\t: Raspberry Pi 5\n"


def fake(monkeypatch, files):
    monkeypatch.setattr(module, "_read", lambda path: files.get(path, ""))


def test_versions_are_the_installed_ones():
    found = environment()
    assert found["packages"]["torch"] == importlib.metadata.version("torch")
    assert found["python"].endswith(platform.python_version())
    json.dumps(found)


def test_no_private_name_is_in_it():
    text = json.dumps(environment())
    for private in (platform.node(), str(Path.home()), os.getcwd()):
        assert len(private) < 4 or private not in text
    if getpass.getuser() != "root":
        assert getpass.getuser() not in text


def test_what_the_caller_adds_wins():
    assert environment({"seed": 3, "gpus": ["one"]}).items() >= {"seed": 3, "gpus": ["one"]}.items()


def test_no_heavy_package_is_imported():
    code = (
        "import sys; from lightune.runs.environment import environment; environment();"
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("cpuinfo", "model", "flags"),
    [
        (X86, "A CPU v4", ["avx2", "avx512_bf16", "amx_tile"]),
        (ARM, "Raspberry Pi 5", ["asimd", "bf16", "i8mm"]),
        ("", platform.processor() or platform.machine(), []),
    ],
)
def test_processors(monkeypatch, cpuinfo, model, flags):
    fake(monkeypatch, {"/proc/cpuinfo": cpuinfo})
    assert module.cpu_model() == model
    assert module.cpu_flags() == flags


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1), ("", 8)]
)
def test_a_containers_share_of_the_cores_counts(monkeypatch, quota, cores):
    fake(monkeypatch, {"/sys/fs/cgroup/cpu.max": quota})
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    assert module.usable_cores() == cores


@pytest.mark.parametrize(("limit", "memory"), [("max", 16000), ("1073741824", 1024), ("", 16000)])
def test_a_containers_share_of_the_memory_counts(monkeypatch, limit, memory):
    meminfo = f"MemTotal:       {16000 * 1024} kB\nMemFree: 1 kB\n"
    fake(monkeypatch, {"/proc/meminfo": meminfo, "/sys/fs/cgroup/memory.max": limit})
    assert module.memory_mb() == memory


def test_the_code_hash_follows_the_code(tmp_path, monkeypatch):
    root = Path(module.__file__).parents[1]
    copy = tmp_path / "lightune"
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "__file__", str(copy / "runs" / "environment.py"))

    def fresh():
        module.code_hash.cache_clear()
        return module.code_hash()

    before = fresh()
    assert fresh() == before
    (copy / "errors.py").write_bytes((copy / "errors.py").read_bytes() + b"#")
    changed = fresh()
    (copy / "errors.py").rename(copy / "errors2.py")
    assert len({before, changed, fresh()}) == 3
    module.code_hash.cache_clear()
