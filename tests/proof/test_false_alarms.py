"""The decisions of `lightune compare` under the null, as counted by `false_alarms.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("false_alarms.py")


def counted(comparisons):
    command = [sys.executable, str(SCRIPT), "--comparisons", str(comparisons)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.proof
def test_false_alarms_coverage_and_power_in_full():
    found = counted(2000)
    for name, numbers in found["null"].items():
        assert numbers["false_alarms"] <= 0.05, name
        assert 0.93 <= numbers["coverage"] <= 0.975, name
    assert found["power"]["found"] >= found["power"]["computed"]


def test_false_alarms_are_rare_in_a_small_sample():
    found = counted(60)
    alarms = sum(numbers["false_alarms"] for numbers in found["null"].values()) / 6
    assert alarms <= 0.08  # of 360 families: 5 % and two standard errors and a half
    for name, numbers in found["null"].items():
        assert 0.9 <= numbers["coverage"] <= 1, name
    assert found["power"]["found"] > 0.6
