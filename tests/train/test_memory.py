"""What memory may still be taken, from made-up files of the system."""

import gc

import pytest

from lightune.train import memory

MB = 10**6


@pytest.fixture
def system(tmp_path, monkeypatch):
    """A machine with 8 GB free, and no limit until a test writes one."""
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "OWN_GROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    (tmp_path / "meminfo").write_text("MemTotal: 16000000 kB\nMemAvailable: 8000000 kB\n")
    (tmp_path / "cgroup").write_text("0::/job/inner\n")
    (tmp_path / "groups" / "job" / "inner").mkdir(parents=True)
    return tmp_path


def limit(folder, most, used, droppable=0, names=("memory.max", "memory.current")):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{most}\n")
    (folder / names[1]).write_text(f"{used}\n")
    total = "total_" if "limit" in names[0] else ""
    (folder / "memory.stat").write_text(f"anon 5\n{total}inactive_file {droppable}\n")


def test_without_limits_the_machine_decides(system):
    limit(system / "groups" / "job", "max", 5 * MB)
    assert memory.available_mb() == pytest.approx(8192)


def test_the_tightest_group_decides(system):
    limit(system / "groups" / "job", 3000 * MB, 1000 * MB, 200 * MB)
    assert memory.available_mb() == pytest.approx(2200)
    limit(system / "groups" / "job" / "inner", 1000 * MB, 900 * MB)
    assert memory.available_mb() == pytest.approx(100)
    limit(system / "groups" / "job" / "inner", 1000 * MB, 1900 * MB)
    assert memory.available_mb() == 0


def test_version_1_groups(system):
    (system / "cgroup").write_text("5:cpu:/x\n4:memory:/job\n0::/\n")
    names = "memory.limit_in_bytes", "memory.usage_in_bytes"
    limit(system / "groups" / "memory" / "job", 700 * MB, 300 * MB, 50 * MB, names)
    assert memory.available_mb() == pytest.approx(450)


def test_a_container_that_sees_only_its_own_root(system):
    (system / "cgroup").write_text("0::/docker/abc\n")
    limit(system / "groups", 600 * MB, 100 * MB)
    assert memory.available_mb() == pytest.approx(500)


def test_this_machine_has_some():
    assert 0 < memory.available_mb() < 1e8
    memory.give_back()


def test_the_collector_is_as_before():
    assert gc.isenabled()
    seen = []

    def fail():
        with memory.collector_off():
            seen.append(gc.isenabled())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [False]
    assert gc.isenabled()
    gc.disable()
    try:
        with memory.collector_off():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
