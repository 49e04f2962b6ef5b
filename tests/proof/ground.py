"""What the faults are planted in: tiny models, small data, and a training that tells its outcome.

An outcome is a list of `(where, text)`: where something was said, and what.

    before    an error before the first step      while     an error that stopped the training
    warning   a warning kept with the run         seal      the run was left unsealed
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from small_runs import recipe

from lightune import pipeline, seal, sealing
from lightune.errors import LightuneError
from lightune.evaluate import plots
from lightune.models.tiny import save_tiny
from lightune.run import Run
from lightune.runs.files import to_json
from lightune.runs.folder import RunFolder
from lightune.runs.warned import read_warnings
from lightune.types import HeadSpec

Outcome = list[tuple[str, str]]
HEADS = {"lm": HeadSpec("causal_lm"), "seq2seq": HeadSpec("seq2seq_lm")}
TOPICS = ["film", "book", "song", "game", "meal", "trip", "shop", "team", "bike", "lamp"]
OPENINGS = ["today", "again", "later", "maybe", "often", "never", "still", "once"]


def labelled(count: int = 160, seed: int = 0) -> list[dict[str, str]]:
    """Return rows whose label, drawn at random, can be read from the text."""
    chance = Random(seed)
    rows = []
    for number in range(count):
        label = chance.choice(("neg", "pos"))
        word = {"neg": "bad", "pos": "good"}[label]
        topic, opening = TOPICS[number % 10], OPENINGS[number // 10 % 8]
        rows.append({"text": f"{word} {opening} {word} {topic} {word} {number}", "label": label})
    return rows


class Ground:
    """Where faults are planted.

    Args:
        place: a folder for models, data and runs.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.runs = 0
        self.out = place
        for name in ("loss_curve", "confusion_matrix"):  # slower than the whole training
            setattr(plots, name, lambda *arguments: None)

    def model(self, name: str = "bert", own: bool = False) -> Path:
        """Return the folder of a tiny model; `llama-lm` is a whole language model.

        Args:
            own: a new copy, to be damaged.
        """
        family, _, form = name.partition("-")
        folder = self.place / f"{name}{f'-{self.runs}' if own else ''}"
        self.runs += own
        return folder if folder.exists() else save_tiny(folder, family, HEADS.get(form))

    def write(self, name: str, content: str | bytes) -> str:
        path = self.place / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    def rows(self, name: str, rows: list[dict[str, Any]]) -> str:
        """Write rows as JSON lines; return the file."""
        return self.write(f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))

    def train(self, method: Any = "lora", model: Any = None, **changes: Any) -> Outcome:
        """Train and seal; return what was said."""
        self.runs += 1
        self.out = self.place / f"run-{self.runs}"
        if "data" not in changes:
            changes["data"] = {"train": self.rows("rows", labelled()), "test": 0.3}
        changes = {"max_steps": 60, "batch_size": 8, "learning_rate": 1e-2} | changes
        given = recipe(model or self.model(), method, **changes)
        unsealed: list[str] = []

        def sealed_here(folder: RunFolder, starts: dict[str, str], records: Any, note: Any) -> None:
            """As `sealing.seal_run`, without the new process, whose imports take seconds."""
            rows = [[dict(r.values), r.place.file, r.place.line] for r in records]
            handed = folder.path / sealing.INPUT
            handed.write_text(json.dumps(to_json({"starts": starts, "records": rows})))
            try:
                seal.verify(folder.path, lambda text: None, seal=True)
            except LightuneError as error:
                unsealed.append(str(error))
            handed.unlink()

        try:
            with mock.patch.object(pipeline, "seal_run", sealed_here):
                pipeline.train(given, out=self.out, progress="silent")
        except LightuneError as error:
            began = (self.out / "metrics.jsonl").exists()
            return [("while" if began else "before", str(error))]
        warned = [("warning", f"{w.check}: {w}") for w in read_warnings(self.out)]
        return warned + [("seal", text) for text in unsealed]

    def trained(self, **changes: Any) -> Run:
        """Return a run that is as it should be."""
        said = self.train(**changes)
        assert not [text for where, text in said if where != "warning"], said
        return Run.open(self.out)


@contextmanager
def patched(place: Any, name: str, value: Any) -> Iterator[None]:
    """Put a fault into our own code for a while."""
    with mock.patch.object(place, name, value):
        yield
