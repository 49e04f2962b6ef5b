"""Scores by entity: the oracle is what seqeval 1.2.2 computed, kept in `oracles/seqeval.jsonl`."""

import json
from pathlib import Path

import numpy as np
import pytest

from lightune.metrics.entities import by_entity, entities
from lightune.metrics.intervals import point

FILE = Path(__file__).parents[1] / "oracles" / "seqeval.jsonl"
CASES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]


def counted(case):
    """Return hits, expected and predicted entities, each `[types, texts]`."""
    sides = [[set(entities(tags.split())) for tags in case[name]] for name in ("true", "predicted")]
    kinds = sorted({kind for side in sides for found in side for kind, _, _ in found})
    counts = np.zeros((3, len(kinds), len(case["true"])), dtype=np.int64)
    for text, (true, said) in enumerate(zip(*sides, strict=True)):
        for part, found in enumerate((true & said, true, said)):
            for kind, _, _ in found:
                counts[part, kinds.index(kind), text] += 1
    return counts


@pytest.mark.parametrize("number", range(len(CASES)))
def test_entities_and_scores_are_seqevals(number):
    case = CASES[number]
    for tags, expected in zip(case["true"], case["entities"], strict=True):
        found = [[kind, first, end - 1] for kind, first, end in entities(tags.split())]
        assert found == expected, tags
    scores = point(by_entity(*counted(case)), len(case["true"]))
    for name in ("precision", "recall", "f1", "macro_f1"):
        assert scores.get(name, 0.0) == pytest.approx(case[name], abs=1e-12), name


def test_without_any_entity_nothing_is_claimed():
    none = np.zeros((0, 3), dtype=np.int64)
    assert point(by_entity(none, none, none), 3) == {}


def test_resamples_weigh_records():
    hits, true, said = np.array([[1, 0]]), np.array([[1, 1]]), np.array([[1, 2]])
    found = by_entity(hits, true, said)(np.array([[1.0, 3.0], [1.0, 0.0]]))
    np.testing.assert_allclose(found["f1"], [2 * 1 / (2 + 3), 1.0])
    np.testing.assert_allclose(found["precision"], [1 / 3, 1.0])
    np.testing.assert_allclose(found["recall"], [1 / 2, 1.0])
