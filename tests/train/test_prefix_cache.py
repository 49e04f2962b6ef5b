"""Training with the frozen blocks' output kept, beside the same training that computes it anew."""

import errno
from collections import namedtuple
from functools import partial

import pytest
import torch
from torch import nn

from lightune.engine import prefix_cache as module
from lightune.engine.batches import collate
from lightune.engine.plan import Plan
from lightune.engine.prefix import find_prefix
from lightune.engine.prefix_cache import PrefixCache, Store, prefix_key
from lightune.methods.lora import LoRA
from lightune.models.tiny import FAMILIES
from lightune.tasks.classification import Classification
from lightune.types import HeadSpec
from tests.train.training import STATE, Training, examples_of

HEAD = HeadSpec("sequence_classification", ("a", "b", "c"))
TASK = Classification()
SKIPPING = [family for family in FAMILIES if family != "albert"]
Usage = namedtuple("Usage", "free")


class Setup:
    """A tiny model, LoRA in its last block only, and a cache for it."""

    def __init__(self, family, folder, examples, method=None, limit=1e9):
        self.model, tokenizer = FAMILIES[family](HEAD, 0)
        for weight in self.model.parameters():
            if weight.dim() > 1:
                weight.mul_(
                    5
                )  # so that logits, and what dropout does to them, are no small numbers
        torch.manual_seed(0)
        self.part = (method or LoRA(layers=[1])).attach(self.model)
        self.examples = examples
        self.collate = partial(
            collate,
            pad_id=tokenizer.pad_token_id,
            targets=lambda e, width: TASK.targets(e, STATE, width),
        )
        pair = [examples[0], examples[1]]
        together = [self.collate(pair), *(self.collate([one]) for one in pair)]
        self.prefix = find_prefix(self.model, self.loss, lambda: together)
        self.notes, self.computed = [], []
        store = Store(folder / "states.bin", prefix_key(self.prefix, Plan()))
        self.cache = PrefixCache(self.prefix, store, limit, self.notes.append)
        first = self.model.get_submodule(self.prefix.blocks[0])
        first.register_forward_hook(lambda m, args, output: self.computed.append(m.training))

    def loss(self, batch):
        return TASK.loss(TASK.forward(self.model, batch, STATE), batch, STATE)

    def train(self, cached, **options):
        return Training(
            self.model,
            self.examples,
            trainable=self.part.trainable,
            collate=self.collate,
            set_mode=self.prefix.set_mode,
            prefix_cache=self.cache if cached else None,
            **({"epochs": 3, "batch_size": 4} | options),
        )


def both(family, tmp_path, examples=None, **options):
    """Train twice from the same start: whole, and with the cache."""
    examples = examples or examples_of(24)
    made = []
    for cached in (False, True):
        folder = tmp_path / str(cached)
        folder.mkdir()
        setup = Setup(family, folder, examples)
        made.append((setup, setup.train(cached, **options)))
    return made


def close(one, other):
    torch.testing.assert_close(one.losses, other.losses, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one.weights, other.weights, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", SKIPPING)
def test_losses_and_weights_are_those_of_the_whole_model(family, tmp_path):
    (plain, whole), (setup, cached) = both(family, tmp_path)
    close(whole, cached)
    assert len(plain.computed) == 18
    assert len(setup.computed) == 2, "a sample, and one batch of all texts"


def test_dropout_of_the_trained_blocks_is_drawn_as_without_the_cache(tmp_path):
    """BERT drops out: in the trained block both ways alike, in the frozen one never."""
    (_, whole), (setup, cached) = both("bert", tmp_path)
    close(whole, cached)
    again = Setup("bert", tmp_path, setup.examples)
    for part in again.model.bert.encoder.layer[1].modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    without = again.train(True)
    assert abs(without.losses[0] - cached.losses[0]) > 1e-2
    assert not any(setup.computed), "the frozen block was in train mode"


def test_a_batch_kept_in_the_same_shape_is_equal_bit_for_bit(tmp_path):
    examples = examples_of(6)
    setup = Setup("bert", tmp_path, examples)
    setup.prefix.set_mode(setup.model)
    setup.cache.fill(examples, setup.collate, setup.loss)
    names = {module.texts_of(setup.collate([e]))[0]: e for e in examples}
    batch = setup.collate([names[text] for text in setup.cache.store.places])
    losses = []
    for stands_in in (False, True):
        torch.manual_seed(1)
        with module.standing_in(setup.cache if stands_in else None, batch):
            loss = setup.loss(batch)
        loss.backward()
        grads = {n: p.grad.clone() for n, p in setup.part.trainable.items()}
        setup.model.zero_grad()
        losses.append((loss.detach(), grads))
    (whole, whole_grads), (kept, kept_grads) = losses
    assert torch.equal(whole, kept)
    assert all(torch.equal(whole_grads[name], kept_grads[name]) for name in whole_grads)


def test_evaluation_runs_the_whole_model_in_evaluation_mode(tmp_path):
    setup = Setup("bert", tmp_path, examples_of(12))
    batch = setup.collate(setup.examples[:4])  # texts that the cache knows
    seen = []

    def evaluate():
        before = len(setup.computed)
        with torch.no_grad():
            logits = setup.model(**batch.inputs).logits
        seen.append((len(setup.computed) - before, setup.model.bert.encoder.layer[1].training))
        return {"macro_f1": float(logits.sum())}

    result = setup.train(True, epochs=2, evaluate=evaluate, evaluation={"every": "epoch"})
    assert seen == [(1, False), (1, False)]
    assert result.result.steps == 6


def test_a_resumed_training_is_equal_bit_for_bit(tmp_path):
    states, runs = {}, []
    for name in ("straight", "resumed"):
        folder = tmp_path / name
        folder.mkdir()
        setup = Setup("bert", folder, examples_of(20))
        options = {"on_step": lambda step, state: states.setdefault(step, state())}
        runs.append(setup.train(True, **(options if name == "straight" else {"resume": states[7]})))
    straight, resumed = runs
    assert straight.losses[7:] == resumed.losses
    assert all(torch.equal(straight.weights[n], t) for n, t in resumed.weights.items())


def free_space(monkeypatch, bytes_free):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: Usage(bytes_free))


@pytest.mark.parametrize("trouble", ["limit", "little space", "full at once", "full later"])
def test_without_room_the_training_is_the_same_and_says_so(trouble, tmp_path, monkeypatch):
    examples = examples_of(24)
    whole = Setup("bert", tmp_path, examples).train(False)
    setup = Setup("bert", tmp_path, examples, limit=100 if trouble == "limit" else 1e9)
    monkeypatch.setattr(module, "FILL_TOKENS", 40)
    if trouble == "little space":
        free_space(monkeypatch, module.DISK_MARGIN + 100)
    append, appended = Store.append, []

    def full(store, texts, states):
        if trouble == "full at once" or (trouble == "full later" and len(appended) == 2):
            raise OSError(errno.ENOSPC, "No space left on device")
        appended.append(len(texts))
        append(store, texts, states)

    monkeypatch.setattr(Store, "append", full)
    trained = setup.train(True)
    close(whole, trained)
    assert len(setup.cache.store.places) == sum(appended)
    assert "frozen blocks run in every epoch" in setup.notes[-1]
    words = {"limit": "prefix_cache_gb", "little space": "are free where"}
    assert words.get(trouble, "disk is full") in setup.notes[-1]


def test_another_training_computes_only_what_is_missing(tmp_path):
    """The store of one fold serves the next."""
    examples = examples_of(20)
    one = Setup("bert", tmp_path, examples[:12])
    one.prefix.set_mode(one.model)
    one.cache.fill(examples[:12], one.collate, one.loss)
    other = Setup("bert", tmp_path, examples, LoRA(rank=2, layers=[1]))
    assert prefix_key(other.prefix, Plan()) == one.cache.store.key
    cache = PrefixCache(other.prefix, one.cache.store, note=other.notes.append)
    other.prefix.set_mode(other.model)
    cache.fill(examples, other.collate, other.loss)
    assert "for 8 texts" in other.notes[-1]
    cache.fill(examples, other.collate, other.loss)
    assert len(other.notes) == 1
