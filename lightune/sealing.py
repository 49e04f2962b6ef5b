"""What a training hands to the process that proves it, and how that is started.

    starts = tensor_hashes(attachments)          # before the first step
    …
    seal_run(folder, starts, records, note)      # after the last file: a new process, seal.json

Why:        only a process that knows nothing but the run folder shows that the folder is enough.
            It gets two things beside it, in a hidden file that is removed afterwards: how every
            trained tensor began, which is nowhere else, and the test records, which may have come
            from Python objects.
Errors:     none: a proof that fails or cannot be had leaves the run unsealed, and is said.
Not here:   what is proved (`seal.py`).
"""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightune.errors import LightuneError
from lightune.methods.base import Attachment
from lightune.runs.files import to_json
from lightune.runs.folder import RunFolder
from lightune.runs.sealed import SEAL, proof
from lightune.types import Place, Record

INPUT = ".seal-input.json"


def tensor_hashes(attachments: Sequence[Attachment]) -> dict[str, str]:
    """Return `{path: SHA-256 of its float32 values}` of every trained tensor."""
    return {
        path: hashlib.sha256(
            weight.detach().cpu().float().contiguous().numpy().tobytes()
        ).hexdigest()
        for part in attachments
        for path, weight in part.trainable.items()
    }


def seal_run(
    folder: RunFolder,
    starts: dict[str, str],
    records: Sequence[Record],
    note: Callable[[str], None],
) -> None:
    """Let a new process prove the finished run and write its seal.

    Args:
        starts: `tensor_hashes` before training.
        records: of the test, in the order of `predictions.jsonl`.
        note: told why there is no seal, where there is none.
    """
    handed = folder.path / INPUT
    try:
        rows = [[dict(r.values), r.place.file, r.place.line] for r in records]
        handed.write_text(json.dumps(to_json({"starts": starts, "records": rows})))
        # -P: a user's statistics.py in the working directory is not taken for Python's own
        command = [sys.executable, "-P", "-m", "lightune", "verify", str(folder.path)]
        command += ["--seal", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except (OSError, TypeError, LightuneError) as error:
        note(f"not sealed: {error}")
        return
    finally:
        handed.unlink(missing_ok=True)
    if done.returncode or not (folder.path / SEAL).is_file():
        last = done.stderr.strip().splitlines()[-4:] or [f"exit status {done.returncode}"]
        note(f"not sealed (try {proof(folder.path)}): {' '.join(' '.join(last).split())}")


def handed_over(folder: Path) -> tuple[dict[str, str], list[Record]] | None:
    """Return the starts and the records that a training hands over; None where none does."""
    file = folder / INPUT
    if not file.is_file():
        return None
    given: dict[str, Any] = json.loads(file.read_text())
    records = [Record(values, Place(name, line)) for values, name, line in given["records"]]
    return given["starts"], records
