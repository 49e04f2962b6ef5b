"""Run the proofs one after the other, keep what each printed, and write docs/reliability.md.

    python tests/proof/run.py                # `make proof`: at most an hour on two cores
    python tests/proof/run.py --long         # `make proof-long`: a thousand kills
    python tests/proof/run.py kills faults   # these only

What a proof printed is kept in `runs/proofs`; one that passed with the code as it is now is not run
again, so that an interrupted call goes on where it was. `tests/proof/results` has the figures that
the page shows.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import page

from lightune.runs.environment import code_hash

HERE = Path(__file__).parent
KEPT = HERE.parents[1] / "runs" / "proofs"

PROOFS: dict[str, tuple[str, ...]] = {
    "damage": ("damage.py",),
    "full_disk": ("full_disk.py",),
    "crash_points": ("crash_points.py",),
    "faults": ("faults.py",),
    "fuzz": ("fuzz.py", "--examples", "1000"),
    "kills": ("kills.py", "--kills", "100"),
    "peer_kills": ("peer_kills.py", "--kills", "40"),
    "long_run": ("long_run.py",),
    "seal_cost": ("seal_cost.py",),
}
"""Name -> script and options."""

LONG = {"kills": ("kills.py", "--kills", "1000")}
"""What `--long` runs in place of its short form."""


def prove(name: str, command: tuple[str, ...]) -> bool:
    """Run a proof unless it has passed with this code; return whether it passed."""
    file, mark = KEPT / f"{name}.json", KEPT / f"{name}.passed"
    scripts = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.[cp]*")))
    stamp = json.dumps([code_hash(), hashlib.sha256(scripts).hexdigest(), *command])
    if mark.exists() and mark.read_text() == stamp:
        print(f"{name}: passed before", flush=True)
        return True
    mark.unlink(missing_ok=True)
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, HERE / command[0], *command[1:]],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    file.write_text(done.stdout)
    word = "FAILED" if done.returncode else "passed"
    print(f"{name}: {word} in {time.monotonic() - begun:.0f} s", flush=True)
    if done.returncode:
        print(done.stdout[-3000:], flush=True)
    else:
        mark.write_text(stamp)
    return not done.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[[], *PROOFS])
    parser.add_argument("--long", action="store_true")
    chosen = parser.parse_args()
    KEPT.mkdir(parents=True, exist_ok=True)
    proofs = PROOFS | (LONG if chosen.long else {})
    names = chosen.names or list(LONG if chosen.long else PROOFS)
    passed = [prove(name, proofs[name]) for name in names]
    page.RESULTS.mkdir(exist_ok=True)
    for name in names:
        (page.RESULTS / f"{name}.json").write_text((KEPT / f"{name}.json").read_text())
    if not all(passed):
        sys.exit("a proof failed: the page is as it was")
    page.write()


if __name__ == "__main__":
    main()
