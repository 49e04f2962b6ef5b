"""Write what seqeval 1.2.2 computes, as fixtures that the tests compare with.

Why:        seqeval is the field's definition of entity scores, but its last release is of 2020, so
            it is no dependency, not of the tests either: it runs once, elsewhere.
Makes:      seqeval.jsonl   tags by hand and drawn at random, well-formed or not; the entities of
                            the expected ones, and the scores of its default mode
Run:        python -m venv /tmp/seqeval && /tmp/seqeval/bin/pip install seqeval==1.2.2
            /tmp/seqeval/bin/python tests/oracles/make_seqeval_fixtures.py
"""

import json
import random
import warnings
from pathlib import Path

from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support

OUT = Path(__file__).with_name("seqeval.jsonl")
KINDS = ("PER", "LOC", "MISC-X")

BY_HAND = [
    ("O", "O"),
    ("B-PER", "O"),
    ("O", "B-PER"),
    ("B-PER I-PER O", "B-PER I-PER O"),
    ("B-PER I-LOC", "I-PER I-LOC"),
    ("B I O B E", "B I I O S"),
    ("B-PER B-PER", "B-PER I-PER"),
    ("S-PER E-PER", "S-PER I-PER"),
    ("I-PER E-PER E-PER", "I-PER E-PER O"),
]


def drawn(rng: random.Random, size: int) -> list[str]:
    """Return tags that often do not fit each other."""
    made = []
    for _ in range(size):
        kind = "" if rng.random() < 0.03 else f"-{rng.choice(KINDS)}"
        made.append("O" if rng.random() < 0.35 else rng.choice("BIES") + kind)
    return made


def cases() -> list[list[tuple[list[str], list[str]]]]:
    rng = random.Random(0)
    made = [[(one.split(), other.split())] for one, other in BY_HAND]
    for _ in range(30):
        pairs = []
        for _ in range(rng.randint(1, 4)):
            tags = drawn(rng, rng.randint(1, 12))
            others = drawn(rng, len(tags))
            guess = [a if rng.random() < 0.7 else b for a, b in zip(tags, others, strict=True)]
            pairs.append((tags, guess))
        made.append(pairs)
    return made


def main() -> None:
    warnings.simplefilter("ignore")  # of undefined scores, which it gives as 0
    with OUT.open("w", encoding="utf-8") as file:
        for pairs in cases():
            true, predicted = [list(side) for side in zip(*pairs, strict=True)]
            micro = precision_recall_fscore_support(true, predicted, average="micro")
            there = any(get_entities(tags) for tags in true + predicted)
            macro = precision_recall_fscore_support(true, predicted, average="macro")[2]
            row = {
                "true": [" ".join(tags) for tags in true],
                "predicted": [" ".join(tags) for tags in predicted],
                "entities": [get_entities(tags) for tags in true],
                **dict(zip(("precision", "recall", "f1"), map(float, micro[:3]), strict=True)),
                "macro_f1": float(macro) if there else 0.0,
            }
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
