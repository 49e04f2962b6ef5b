"""Hidden states of the frozen prefix, computed once for each text and used in every epoch.

    cache = PrefixCache(prefix, Store(file, prefix_key(prefix, plan)))
    cache.fill(examples, collate, loss)    # one pass through the frozen blocks
    with cache.standing_in(batch): …       # the frozen blocks do not run

Keeps:      one row for each token, without padding and in the number format of the run, in a file
            that is mapped into memory. A text is found by its token ids: equal texts share a
            place, and a batch with a text that is not there runs through the whole model.
Invariants: what is kept is a pure function of the texts of one `fill`, so that a resumed run has
            the same bits. A batch equals the whole model's bit for bit where its texts were
            computed in this very shape, else to rounding: sums of a matrix product depend on its
            shape. Padding gets zeros, which the attention mask keeps from every other token.
Sharing:    a `Store` may outlive its cache and serve another training (fold, seed, method) on the
            same frozen blocks under the same plan: its key says so.
Not here:   which blocks these are, and whether stand-ins do (`prefix.py`).
Errors:     none: a full disk, or too many texts for the limit, is told by a note, and every batch
            runs through the whole model.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightune.engine.plan import Plan
from lightune.engine.prefix import Loss, Prefix
from lightune.engine.spec import EngineSpec
from lightune.nn.surgery import block_paths
from lightune.types import Batch, Example

FILL_TOKENS = 4096
"""Padded tokens that go through the frozen blocks together: enough to fill the cores."""

DISK_MARGIN = 1 << 28
"""Bytes that stay free on the disk."""

OF_THE_HEAD = ("id2label", "label2id", "problem_type", "architectures", "_name_or_path")
"""What a model's configuration says of its head, which the blocks do not depend on."""

Collate = Callable[[Sequence[Example]], Batch]
Note = Callable[[str], None]


def prefix_key(prefix: Prefix, plan: Plan) -> str:
    """Return a hash of all that decides the hidden states, the texts apart.

    These are the tensors of the frozen part, the model's configuration, and the plan.
    """
    config = prefix.model.config.to_dict()  # type: ignore[operator, union-attr]
    described = {key: str(value) for key, value in config.items() if key not in OF_THE_HEAD}
    parts = [described, list(prefix.blocks), plan.model_dump(exclude={"measured"})]
    parts.append([torch.__version__, type(prefix.model.base_model).__name__])
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode())
    for module in prefix.front:
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(_bytes(tensor))
    return digest.hexdigest()


class Store:
    """Rows of hidden states in one file, and where each text's are.

    Args:
        file: new; grows with `append`.
        key: see `prefix_key`.
    """

    def __init__(self, file: Path, key: str) -> None:
        self.file, self.key = file, key
        self.places: dict[bytes, tuple[int, int]] = {}
        self._tokens = self._width = 0
        self._mapped: Tensor | None = None

    def append(self, texts: Sequence[bytes], states: Sequence[Tensor]) -> None:
        """Add what was computed of some texts, each `[tokens, width]`.

        Raises:
            OSError: the disk is full; what was there before is still good.
        """
        rows = torch.cat(list(states))
        with self.file.open("ab") as file:
            file.truncate(self._tokens * rows.shape[1] * rows.element_size())
            file.write(_bytes(rows))
        for text, one in zip(texts, states, strict=True):
            self.places[text] = (self._tokens, len(one))
            self._tokens += len(one)
        self._width = rows.shape[1]
        size = self._tokens * self._width
        self._mapped = torch.from_file(str(self.file), False, size, dtype=rows.dtype)

    def padded(self, texts: Sequence[bytes], length: int) -> Tensor:
        """Return the states of some texts, `[texts, length, width]`, zeros where there is none."""
        if self._mapped is None:
            raise KeyError("nothing is kept yet")
        rows = self._mapped.view(-1, self._width)
        result = rows.new_zeros(len(texts), length, self._width)
        for row, text in enumerate(texts):
            begin, count = self.places[text]
            result[row, :count] = rows[begin : begin + count]
        return result


class PrefixCache:
    """Lets a store stand in for the frozen blocks of one model.

    Args:
        limit_bytes: of the store; training sets that need more run without.
        note: takes sentences for the user.
        also: texts that later trainings on the same store will need, filled in with the first.
    """

    def __init__(
        self,
        prefix: Prefix,
        store: Store,
        limit_bytes: float = float("inf"),
        note: Note = lambda text: None,
        also: Sequence[Example] = (),
    ) -> None:
        self.prefix, self.store, self.also = prefix, store, also
        self.limit_bytes, self.note = limit_bytes, note

    def fill(
        self,
        examples: Sequence[Example],
        collate: Collate,
        loss: Loss,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Compute what is not there yet. The model is in the mode that `Prefix.set_mode` gives.

        Args:
            examples: all that will be trained on.
            loss: runs the model on a batch; it is interrupted behind the last frozen block.
            stopped: asked before each batch; True ends the filling.
        """
        missing = self._missing([*examples, *self.also], collate)
        if not missing:
            return
        shortest = min(missing.values(), key=len)
        sample = self.prefix.states(lambda: loss(collate([shortest])))
        per_token = sample.shape[-1] * sample.element_size()
        size = per_token * sum(len(example) for example in missing.values())
        if not self._room(size):
            return
        blocks = len(self.prefix.blocks)
        self.note(
            f"frozen: the first {blocks} of {len(block_paths(self.prefix.model))} blocks; what "
            f"they give is computed once for {len(missing):,} texts and kept while training "
            f"({size / 1e6:,.0f} MB)"
        )
        for texts in _by_tokens(missing):
            if stopped():
                return
            batch = collate([missing[text] for text in texts])
            states = self.prefix.states(lambda batch=batch: loss(batch)).cpu()  # type: ignore[misc]
            mask = batch.inputs["attention_mask"].bool()
            try:
                self.store.append(texts, [row[m] for row, m in zip(states, mask, strict=True)])
            except OSError as error:
                self.note(f"the disk is full ({error.strerror}): frozen blocks run in every epoch")
                return

    @contextmanager
    def standing_in(self, batch: Batch) -> Iterator[None]:
        """While open, the model may be run on `batch`, and on nothing else."""
        texts = texts_of(batch)
        if texts is None or not all(text in self.store.places for text in texts):
            yield
            return
        hidden = self.store.padded(texts, batch.inputs["attention_mask"].shape[1])
        device = next(self.prefix.model.parameters()).device
        with self.prefix.replaced_by(hidden.to(device, non_blocking=True)):
            yield

    def _missing(self, examples: Sequence[Example], collate: Collate) -> dict[bytes, Example]:
        """Return one example for each text that is not there, by its name in the store."""
        missing: dict[bytes, Example] = {}
        for example in examples:
            texts = texts_of(collate([example]))
            if texts is not None and texts[0] not in self.store.places:
                missing[texts[0]] = example
        return missing

    def _room(self, size: int) -> bool:
        """Return whether so many bytes may be written; say so if not."""
        if size > self.limit_bytes:
            self.note(
                f"frozen blocks run in every epoch: what they give takes {size / 1e9:.1f} GB, and "
                f"train.engine.prefix_cache_gb is {self.limit_bytes / 1e9:g}"
            )
            return False
        free = shutil.disk_usage(self.store.file.parent).free
        if size + DISK_MARGIN > free:
            self.note(
                f"frozen blocks run in every epoch: what they give takes {size / 1e9:.1f} GB, and "
                f"{free / 1e9:.1f} GB are free where {self.store.file.parent.parent} is"
            )
            return False
        return True


@contextmanager
def prefix_cache(
    prefix: Prefix, plan: Plan, spec: EngineSpec, passes: float, folder: Path, note: Note
) -> Iterator[PrefixCache | None]:
    """Open a cache for one training, its file in a temporary folder; None where there is none.

    Args:
        passes: over the training examples; `auto` keeps nothing for a single one.
        folder: where the temporary folder is made.
        note: takes sentences for the user.
    """
    wanted = spec.prefix_cache == "on" or (spec.prefix_cache == "auto" and passes > 1)
    if wanted and prefix.refusal:
        name = type(prefix.model).__name__
        note(f"frozen blocks of {name} run in every epoch: {prefix.refusal}")
    if not wanted or prefix.refusal or not prefix.blocks:
        yield None
        return
    with TemporaryDirectory(prefix=".prefix-", dir=folder, ignore_cleanup_errors=True) as place:
        key = prefix_key(prefix, plan)
        store = Store(Path(place) / f"{key[:16]}.bin", key)
        yield PrefixCache(prefix, store, spec.prefix_cache_gb * 1e9, note)


def standing_in(cache: PrefixCache | None, batch: Batch) -> Any:
    """Return the context in which the model runs on `batch`."""
    return nullcontext() if cache is None else cache.standing_in(batch)


def texts_of(batch: Batch) -> list[bytes] | None:
    """Return a name for the text of each row: a hash of all its inputs, padding left out.

    None where rows are not single texts with their padding, if any, on the right.
    """
    mask = batch.inputs.get("attention_mask")
    if mask is None or mask.dim() != 2 or bool((mask[:, 1:] > mask[:, :-1]).any()):
        return None
    arrays: list[tuple[bytes, np.ndarray]] = []
    for name, tensor in sorted(batch.inputs.items()):
        if tensor.shape != mask.shape or tensor.is_floating_point():
            return None
        if name != "attention_mask":
            arrays.append((name.encode(), tensor.cpu().numpy()))
    names = []
    for row, count in enumerate(mask.sum(1).tolist()):
        parts = (part for name, array in arrays for part in (name, array[row, :count].tobytes()))
        names.append(hashlib.blake2b(b"\0".join(parts), digest_size=16).digest())
    return names


def _by_tokens(texts: dict[bytes, Example]) -> Iterator[list[bytes]]:
    """Yield batches of texts of like length, longest first, of `FILL_TOKENS` tokens at most."""
    group: list[bytes] = []
    for text in sorted(texts, key=lambda name: (-len(texts[name]), name)):
        if group and (len(group) + 1) * len(texts[group[0]]) > FILL_TOKENS:
            yield group
            group = []
        group.append(text)
    if group:
        yield group


def _bytes(tensor: Tensor) -> Any:
    """Return the bytes of a tensor, in whatever format it is, as a numpy array over them."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
