"""What sealing costs: the processor seconds of the new process, for a run of a real model.

    python tests/proof/seal_cost.py --model minilm --records 1500

Trains a few steps (how long a training is does not matter to its seal), then counts what the
sealing process took, start and imports included. Prints one JSON object.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from small_runs import recipe, rows, write_csv

from lightune import pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--records", type=int, default=1500)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        data = str(write_csv(Path(place) / "rows.csv", rows(count=chosen.records)))
        given = recipe(chosen.model, data=data, seal=False)
        run = pipeline.train(given, out=Path(place) / "run", progress="silent")
        command = [sys.executable, "-m", "lightune", "verify", str(run.folder), "--seal", "--json"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = json.loads(done.stdout)["checks"]["predictions"]
    print(json.dumps({"model": chosen.model, "cpu_seconds": round(seconds, 1), **found}))


if __name__ == "__main__":
    main()
