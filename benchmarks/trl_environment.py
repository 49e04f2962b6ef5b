"""TRL in a place of its own, so that it never changes the project's environment.

How:     pip is asked what an installation would bring. Where that leaves torch, transformers and
         peft as they are, only the new packages go into a folder that the peer's process finds
         first (`PYTHONPATH`); where pins demand others, the peer gets a whole environment.
Errors:  `Unavailable`, with pip's last line, where TRL cannot be had (no network, say).
"""

import json
import os
import subprocess
import sys
from pathlib import Path

VERSION = "trl==1.16.0"
HELD = ("torch", "transformers", "peft", "datasets", "accelerate")


class Unavailable(Exception):
    """TRL cannot be installed here."""


def command(folder: Path) -> tuple[str, dict[str, str]]:
    """Return the Python to run the peer with and its environment variables.

    Args:
        folder: where to install, and where an earlier installation is found.
    """
    beside, whole = folder / "trl-beside", folder / "trl-environment"
    if not (beside / "ready").exists() and not (whole / "ready").exists():
        _install(beside, whole)
    if (whole / "ready").exists():
        return str(whole / "bin/python"), dict(os.environ)
    path = [str(beside), os.environ.get("PYTHONPATH", "")]
    return sys.executable, dict(os.environ) | {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def _install(beside: Path, whole: Path) -> None:
    report = _pip(sys.executable, "--dry-run", "--report", "-", VERSION)
    wanted = {
        p["metadata"]["name"]: p["metadata"]["version"] for p in json.loads(report)["install"]
    }
    if not needs_a_whole_environment(wanted):
        pins = [f"{name}=={version}" for name, version in wanted.items()]
        _pip(sys.executable, "--no-deps", "--target", str(beside), *pins)
        (beside / "ready").touch()
        return
    subprocess.run([sys.executable, "-m", "venv", str(whole)], check=True)
    python = str(whole / "bin/python")
    _pip(python, VERSION, "peft", "torch", "numpy", *_project())
    (whole / "ready").touch()


def needs_a_whole_environment(wanted: dict[str, str]) -> bool:
    """Return whether an installation would replace a package that the comparison holds fixed."""
    return any(name.lower() in HELD for name in wanted)


def _project() -> list[str]:
    return [str(Path(__file__).parents[1])]


def _pip(python: str, *words: str) -> str:
    done = subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or ["pip failed"])[-1])
    return done.stdout
