"""Batches by length: nobody left out, few pads, and an order that is a function of the seed."""

import numpy as np
import pytest
import torch

from lightune.engine.batches import by_length, collate, epoch_batches
from lightune.types import Example

LENGTHS = np.random.default_rng(0).integers(3, 120, size=1003).tolist()


@pytest.mark.parametrize("order", ["by_length", "random"])
class TestAnEpoch:
    def test_has_each_example_once_in_as_many_batches(self, order):
        batches = epoch_batches(LENGTHS, 16, seed=0, epoch=0, order=order)
        assert sorted(i for batch in batches for i in batch) == list(range(1003))
        assert sorted(map(len, batches)) == [11] + 62 * [16]

    def test_is_a_function_of_seed_and_epoch(self, order):
        first = epoch_batches(LENGTHS, 16, seed=1, epoch=2, order=order)
        assert first == epoch_batches(LENGTHS, 16, seed=1, epoch=2, order=order)
        assert first != epoch_batches(LENGTHS, 16, seed=1, epoch=3, order=order)
        assert first != epoch_batches(LENGTHS, 16, seed=2, epoch=2, order=order)

    def test_of_nothing_is_nothing(self, order):
        assert epoch_batches([], 16, seed=0, epoch=0, order=order) == []


def padded(batches):
    return sum(len(b) * max(LENGTHS[i] for i in b) for b in batches) / sum(LENGTHS)


def test_by_length_pads_little():
    assert padded(epoch_batches(LENGTHS, 16, 0, 0, "random")) > 1.6
    assert padded(epoch_batches(LENGTHS, 16, 0, 0)) < 1.05


def test_batches_come_in_mixed_order():
    longest = [max(LENGTHS[i] for i in batch) for batch in epoch_batches(LENGTHS, 16, 0, 0)]
    assert abs(np.corrcoef(longest, range(len(longest)))[0, 1]) < 0.4


def test_prediction_batches_go_from_long_to_short():
    batches = by_length(LENGTHS, 10)
    flat = [LENGTHS[i] for batch in batches for i in batch]
    assert flat == sorted(LENGTHS, reverse=True)
    assert sorted(i for batch in batches for i in batch) == list(range(1003))


def examples():
    return [
        Example(4, {"input_ids": [7, 8, 9], "token_type_ids": [0, 0, 1]}, target=1),
        Example(2, {"input_ids": [5], "token_type_ids": [0]}, target=0),
    ]


def test_collate_pads_on_the_right():
    batch = collate(examples(), 99, lambda e, w: torch.tensor([x.target for x in e]), multiple=4)
    assert batch.inputs["input_ids"].tolist() == [[7, 8, 9, 99], [5, 99, 99, 99]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 0, 0, 0]]
    assert batch.inputs["token_type_ids"].tolist() == [[0, 0, 1, 0], [0, 0, 0, 0]]
    assert batch.targets.tolist() == [1, 0]
    assert batch.indices == [4, 2]


def test_collate_pads_on_the_left():
    batch = collate(examples(), 99, None, multiple=4, side="left", pad_values={"token_type_ids": 3})
    assert batch.inputs["input_ids"].tolist() == [[99, 7, 8, 9], [99, 99, 99, 5]]
    assert batch.inputs["attention_mask"].tolist() == [[0, 1, 1, 1], [0, 0, 0, 1]]
    assert batch.inputs["token_type_ids"].tolist() == [[3, 0, 0, 1], [3, 3, 3, 0]]
    assert batch.targets is None


def test_width_is_a_multiple():
    assert collate(examples(), 0, None, multiple=8).inputs["input_ids"].shape == (2, 8)
