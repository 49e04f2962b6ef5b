"""Plant faults of training, and see each caught; train clean runs, and see nothing said.

    python tests/proof/faults.py --clean 50

`planted_trainings.py` and `planted_runs.py` have the faults and where each must be caught;
`clean.py` the clean runs, of nine tasks with several methods, on tiny models: a warning, an error
or a missing seal there is a false alarm. Prints one JSON object.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import planted_runs
import planted_trainings
from clean import CLEAN
from fault import FAULTS, Fault
from ground import Ground

assert planted_runs.fault is planted_trainings.fault, "importing both fills FAULTS"


def caught(fault: Fault, ground: Ground) -> str:
    """Plant one fault; return nothing where it was caught, else what was said instead."""
    said = fault.plant(ground)
    for where, text in said:
        if where == fault.where and all(word in text for word in fault.words):
            return ""
    return f"{fault.where}: {fault.words} expected; said: {said}"[:1500]


def prove(place: Path, names: list[str], clean: int) -> dict[str, Any]:
    """Plant the faults of these names, all where there are none; train `clean` runs."""
    ground = Ground(place)
    chosen = [fault for fault in FAULTS if not names or any(n in fault.name for n in names)]
    missed = {}
    where: dict[str, list[str]] = {}
    for fault in chosen:
        if wrong := caught(fault, ground):
            missed[fault.name] = wrong
        else:
            where.setdefault(fault.where, []).append(fault.name)
    alarms, tried = {}, CLEAN[:clean]
    for name, (method, changes) in tried:
        if said := ground.train(method, **changes(ground)):
            alarms[name] = str(said)[:1500]
        shutil.rmtree(ground.out, ignore_errors=True)
    return {
        "faults": len(chosen),
        "caught": len(chosen) - len(missed),
        "where": where,
        "missed": missed,
        "clean": len(tried),
        "alarms": alarms,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clean", type=int, default=50)
    parser.add_argument("--fault", action="append", default=[])
    chosen = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        found = prove(Path(place), chosen.fault, chosen.clean)
    print(json.dumps(found | {"seconds": round(time.monotonic() - begun)}, indent=1))
    sys.exit(bool(found["missed"] or found["alarms"]))


if __name__ == "__main__":
    main()
