"""What trials share: the base loaded once, texts tokenised once, frozen blocks run once.

Why:        the trials of a comparison differ in little. Loading a base for each, hashing it and
            tokenising the same records would take longer than many a trial's training.
How:        a base's tensors are never written, so that each trial gets a copy of the modules that
            holds the very same tensors, and may do with it what it likes. What the seed makes
            anew (a head) is kept for each seed. What frozen lower blocks give is kept for all
            records at once, so that it depends neither on the trial that asks first nor on where
            a comparison was interrupted.
Invariants: a trial's model equals a freshly loaded one bit for bit; so do its tokens.
Not here:   the trial itself (`trials.py`).
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from lightune.adapters.identity import identity_of
from lightune.adapters.manifest import BaseModelId
from lightune.assembly import Job, Sources, encode_split
from lightune.compare.folds import text_of
from lightune.engine.prefix_cache import PrefixCache, Store, prefix_key
from lightune.models.load import Base, load
from lightune.recipe import Recipe
from lightune.tasks.base import Task
from lightune.train.loop import epoch_steps, planned_steps
from lightune.types import Example, HeadSpec, Record

Note = Callable[[str], None]
T = TypeVar("T")

KEPT_SPLITS = 64
"""Tokenised parts that are kept in memory; those made first go first."""


class OutOfTime(Exception):
    """The deadline came while a trial was running."""


class Bench:
    """What the trials of one comparison share in one process.

    Args:
        records: all of them; trials name theirs by position.
        validation: what the user set aside for scoring while training; empty where nothing was.
        pieces: for each record the number of those that it belongs with, which are not parted;
            None where all of one text do.
        folder: exists; what frozen blocks give is kept in it.
        note: takes each sentence that the user should read, once.

    Attributes:
        deadline: of `time.monotonic`, of the trial that runs now; None for none.
    """

    def __init__(
        self,
        records: Sequence[Record],
        folder: Path,
        validation: Sequence[Record] = (),
        note: Note = lambda text: None,
        pieces: Sequence[int] | None = None,
    ) -> None:
        self.records, self.validation, self.folder = records, validation, folder
        self.sources = Sources(self.load, self._identity, self._encode)
        self._pieces = pieces and dict(zip(map(id, records), pieces, strict=True))
        self.deadline: float | None = None
        self._note = note
        self._said: set[str] = set()
        self._bases: dict[tuple[str, HeadSpec], Base] = {}
        self._new: dict[tuple[str, HeadSpec, int], dict[str, nn.Module]] = {}
        self._identities: dict[tuple[Any, ...], BaseModelId] = {}
        self._tokens: dict[str, list[Example]] = {}
        self._stores: dict[str, Store] = {}
        self._made: dict[Hashable, Any] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return `make()`, made for the first who asks by this key."""
        if key not in self._made:
            self._made[key] = make()
        made: T = self._made[key]
        return made

    def together(self, task: Task) -> Callable[[Record], Hashable]:
        """Return what tells which records may not be parted in choosing settings: those of one
        piece; else those of one text (the passage, where several share one)."""
        pieces = self._pieces
        return text_of(task) if pieces is None else lambda record: pieces[id(record)]

    def check_time(self) -> None:
        """Raise `OutOfTime` where the deadline has come."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise OutOfTime

    def note(self, text: str) -> None:
        """Say a sentence, unless an earlier trial said it."""
        if text not in self._said:
            self._said.add(text)
            self._note(text)

    def load(self, name: str, head: HeadSpec, seed: int) -> Base:
        """Return a base as `models.load.load` does, its tensors shared with all that came before.

        Raises:
            ModelError: the model cannot be had, or has no such head.
        """
        known = self._bases.get((name, head))
        if known is None or (known.new_modules and (name, head, seed) not in self._new):
            self._keep(load(name, head, seed), head, seed)
        base = self._bases[name, head]
        model = _sharing(base.model)
        for path in base.new_modules:
            model.set_submodule(path, _sharing(self._new[name, head, seed][path]))
        return replace(base, model=model, notes=list(base.notes))

    def _keep(self, base: Base, head: HeadSpec, seed: int) -> None:
        self._bases.setdefault((base.name, head), base)
        modules = {path: base.model.get_submodule(path) for path in base.new_modules}
        self._new[base.name, head, seed] = modules

    def _identity(self, base: Base) -> BaseModelId:
        key = (base.name, type(base.model).__name__, base.new_modules)
        if key not in self._identities:
            self._identities[key] = identity_of(base)
        return self._identities[key]

    def _encode(self, job: Job, split: str, note: Note) -> list[Example]:
        decided_by = [
            job.splits.report["splits"][split]["sha256"],
            job.manifest.task,
            job.manifest.base.tokenizer_sha256,
            job.predictor.state,
            job.predictor.max_length,
        ]
        key = json.dumps(decided_by, sort_keys=True, default=str)
        if key not in self._tokens:
            if len(self._tokens) >= KEPT_SPLITS:
                self._tokens.pop(next(iter(self._tokens)))
            self._tokens[key] = encode_split(job, split, note)
        return self._tokens[key]

    @contextmanager
    def prefix_cache(self, job: Job) -> Iterator[PrefixCache | None]:
        """Open what stands in for a trial's frozen blocks; None where nothing does."""
        spec, plan = job.recipe.train, job.predictor.prepared.plan
        steps = planned_steps(len(job.examples["train"]), spec)
        passes = steps / len(epoch_steps(job.examples["train"], spec, 0))
        wanted = spec.engine.prefix_cache == "on" or passes > 1
        off = spec.engine.prefix_cache == "off" or job.prefix.refusal or not job.prefix.blocks
        if off or not wanted:
            yield None
            return
        key = prefix_key(job.prefix, plan)
        also: Sequence[Example] = ()
        if key not in self._stores:
            self._stores[key] = Store(self.folder / f"{key[:16]}.bin", key)
            also = job.predictor.encode(self.records)
        limit = spec.engine.prefix_cache_gb * 1e9
        yield PrefixCache(job.prefix, self._stores[key], limit, self.note, also)


def own_head(recipe: Recipe, records: Sequence[Record], bench: Bench) -> bool:
    """Return whether a recipe's model has the task's output layer, so that it can be asked as it
    is."""
    head = recipe.task.head(recipe.task.learn(records))
    return not bench.load(recipe.model, head, recipe.train.seed).new_modules


def _sharing(module: Any) -> Any:
    """Return a copy of a module, with parameters of its own over the very same tensors."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.detach(), p.requires_grad) for p in module.parameters()
    }
    memo |= {id(buffer): buffer for buffer in module.buffers()}
    return copy.deepcopy(module, memo)
