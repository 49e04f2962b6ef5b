"""Train on really full disks: small tmpfs mounts of many sizes; enlarge each, and go on.

    python tests/proof/full_disk.py --sizes 40

The same tiny training as in `crash_points.py` writes to a file system that is too small for it, by
more or by less: it either ends with an error that names its mend, or does without what did not fit
and says so. Then the file system is enlarged, the training goes on where it has not ended, and its
adapter must have the bytes of one that had space. Needs Linux, and a right to mount: root's, or a
user's own namespace (`unshare`); where there is neither, prints the reason.

Prints one JSON object: sizes tried, runs that ended at once, that went on, lost and unequal ones.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from crash_points import Points
from kills import fresh, on
from small_runs import files

INSIDE = "LIGHTUNE_PROOF_NAMESPACE"
PAGE = 4096


def mount(place: Path, pages: int, again: bool = False) -> str:
    """Mount, or resize, a tmpfs; return why it cannot be, or nothing."""
    size = f"{'remount,' if again else ''}size={pages * PAGE}"
    command = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(place)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()


def why_not(place: Path) -> str:
    """Return why nothing can be mounted here; may start this script again where it can."""
    if sys.platform != "linux" or not shutil.which("mount"):
        return "needs Linux and mount"
    reason = mount(place, 1)
    if not reason:
        subprocess.run(["umount", str(place)], check=True)
    elif INSIDE not in os.environ and shutil.which("unshare"):
        command = ["unshare", "--map-root-user", "--mount", sys.executable, *sys.argv]
        again = subprocess.run(command, env=os.environ | {INSIDE: "1"}, check=False)
        sys.exit(again.returncode)
    return reason


def prove(sizes: int, disk: Path, points: Points) -> dict[str, Any]:
    """Train on `sizes` disks; return the counts."""
    needed = sum(-(-len(content) // PAGE) for content in files(points.whole).values())
    found: dict[str, Any] = {"disks": 0, "ended": 0, "went_on": 0, "lost": 0, "unequal": 0}
    found |= {"at_its_end_kb": needed * PAGE // 1024, "begun_anew": 0, "failures": []}
    for number in range(sizes):
        pages = 1 + number * 2 * needed // sizes  # while it saves, it holds more than at its end
        out = disk / "run"
        assert not mount(disk, pages)
        try:
            status = points.child(lambda o=out: fresh(points.given, o), out)
            found["disks"] += 1
            if status == 1:
                found["failures"].append(f"{pages} pages: {points.said()}")
            found["ended" if status else "went_on"] += 1
            assert not mount(disk, 16 * needed, again=True)
            anew = not (out / "recipe.yaml").exists()
            found["begun_anew"] += anew
            if anew:
                shutil.rmtree(out, ignore_errors=True)
            if not (out / "eval.json").exists():
                work = (lambda o=out: fresh(points.given, o)) if anew else (lambda o=out: on(o))
                if points.child(work, out):
                    found["lost"] += 1
                    found["failures"].append(f"{pages} pages: {points.said()}")
                    continue
            found["unequal"] += files(out / "adapter") != points.expected
        finally:
            subprocess.run(["umount", str(disk)], check=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, default=40)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        disk = Path(place) / "disk"
        disk.mkdir()
        if reason := why_not(disk):
            print(json.dumps({"skipped": reason}))
            return
        found = prove(chosen.sizes, disk, Points(Path(place)))
    print(json.dumps(found, indent=1))
    sys.exit(bool(found["lost"] or found["unequal"] or found["failures"]))


if __name__ == "__main__":
    main()
