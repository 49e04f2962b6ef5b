"""A small part of each proof of reliability; `make proof` runs them whole, and docs/reliability.md
has their figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def proved(script: str, *options: str) -> dict:
    """Return what a proof prints; it must end with 0."""
    done = subprocess.run(
        [sys.executable, HERE / script, *options],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_some_damage_is_seen():
    found = proved("damage.py", "--flips", "60", "--truncations", "12")
    assert found["checkpoint"]["flips"] == [60, 60]
    assert found["sealed run"]["deletions"] == [5, 5]


def test_some_crash_points_are_recovered():
    found = proved("crash_points.py", "--every", "45")
    if "skipped" in found:
        pytest.skip(found["skipped"])
    assert found["train"]["kinds"]["fsync"] > 20
    assert found["train"]["kill"]["recovered"] >= 3


def test_some_full_disks_lose_nothing():
    found = proved("full_disk.py", "--sizes", "3")
    if "skipped" in found:
        pytest.skip(found["skipped"])
    assert (found["disks"], found["lost"]) == (3, 0)
    assert found["ended"] >= 1


def test_some_faults_are_caught_and_clean_trainings_are_not_blamed():
    found = proved("faults.py", "--clean", "2", "--fault", "misspelt", "--fault", "new head")
    assert (found["faults"], found["caught"], found["alarms"]) == (4, 4, {})
    assert found["clean"] == 2


def test_a_fault_that_is_not_caught_is_told():
    code = (
        "import faults, fault; fault.FAULTS.clear(); "
        "fault.fault('none at all', 'before', 'x')(lambda ground: []); faults.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--clean", "0"],
        cwd=HERE,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert list(json.loads(done.stdout)["missed"]) == ["none at all"]


def test_no_file_or_thread_stays_open(tmp_path):
    from proof.long_run import flat, prove

    read = prove(60, tmp_path)
    assert read["open_files"][0] == max(read["open_files"])
    assert read["threads"][0] == max(read["threads"])
    found = {"open_files": [8, 8, 8], "threads": [3, 3, 3], "mb_per_1000_steps": 0.2}
    assert flat(found)
    for name, value in (("open_files", [8, 9, 9]), ("mb_per_1000_steps", 1.5)):
        assert not flat(found | {name: value})


def test_the_page_is_what_the_proofs_printed():
    done = subprocess.run([sys.executable, HERE / "page.py", "--check"])
    assert done.returncode == 0, "python tests/proof/page.py writes it"
