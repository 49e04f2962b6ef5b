"""The proofs of reliability in full: `make proof`. docs/reliability.md has their figures."""

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


@pytest.mark.proof
def test_a_hundred_kills_lose_nothing():
    found = proved("kills.py", "--kills", "100")
    assert (found["lost"], found["unequal"]) == (0, 0)


@pytest.mark.proof
def test_every_damage_is_seen():
    proved("damage.py")


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
