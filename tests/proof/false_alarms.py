"""False alarms, coverage and power of `lightune compare`'s decisions, by simulation.

    python tests/proof/false_alarms.py --comparisons 2000

Every comparison is four contenders, tested by cross-validation, judged by the package's own code:
six differences, Holm over them. Two kinds of contenders:

    learners   linear discriminants, really trained in every fold on simulated records. Each sees
               its own features, drawn alike, so that all are equal by construction, while what
               cross-validation does to their scores (overlapping training sets, shared tests) is
               real. Seeds train on other bootstraps of the training part.
    scores     records are right or wrong by a latent normal variable; every training moves all of
               its fold by a random step. How much training is left to chance is set at will.

    beyond     learners that hardly beat guessing, where five folds do not show all of the chance

Counted are families with any difference called real (none is), 95 % intervals of differences that
hold 0, and, for contenders that do differ by what the report says could be detected, how often it
is. Prints one JSON object.
"""

import argparse
import itertools
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from lightune.compare.evidence import Evidence, Fold, weigh
from lightune.compare.tests_of_difference import corrected_t, detectable, holm, mcnemar

Right = NDArray[np.float64]
"""`[contenders, seeds, records]`: 1 where the record is predicted right."""

CONTENDERS = 4


def learners(
    rng: np.random.Generator,
    records: int,
    seeds: int,
    features: int,
    own: float = 0.2,
    shared: float = 0.0,
    folds: int = 5,
) -> tuple[Right, NDArray[np.int64]]:
    """Train discriminants and return what they have right, and the fold of every record."""
    label = rng.permutation(np.repeat([-1.0, 1.0], records // 2))
    common = shared * label + rng.standard_normal(records)
    seen = own * label[:, None] + rng.standard_normal((CONTENDERS, records, features))
    fold = np.empty(records, dtype=np.int64)
    for sign in (-1, 1):
        members = np.flatnonzero(label == sign)
        fold[members] = rng.permutation(len(members)) % folds
    training = (fold != np.arange(folds)[:, None]).astype(float)[:, None, None, :]
    drawn = training * rng.poisson(1.0, size=(folds, CONTENDERS, seeds, records))
    total = drawn.sum(-1)[..., None]
    slope = np.einsum("kcsi,cif->kcsf", drawn * label, seen) / total
    middle = np.einsum("kcsi,cif->kcsf", drawn, seen) / total
    margin = np.einsum("icsf,cif->csi", slope[fold], seen)
    margin -= np.einsum("kcsf,kcsf->kcs", slope, middle)[fold].transpose(1, 2, 0)
    return ((margin + shared * common) * label > 0).astype(float), fold


def scores(
    rng: np.random.Generator,
    records: int,
    seeds: int,
    chance: float,
    folds: int = 5,
    lead: float = 0.0,
) -> tuple[Right, NDArray[np.int64]]:
    """Draw what is right at an accuracy of 0.9; a training's chance moves it by `chance`.

    Args:
        lead: how much more often the first contender is right.
    """
    fold = rng.permutation(records) % folds
    height = np.full((CONTENDERS, 1, 1), stats.norm.ppf(0.9))
    height[0] = stats.norm.ppf(0.9 + lead)
    steps = rng.standard_normal((CONTENDERS, seeds, folds)) * chance / stats.norm.pdf(height)
    latent = height + np.sqrt(0.6) * rng.standard_normal(records)
    latent = latent + np.sqrt(0.2) * rng.standard_normal((CONTENDERS, 1, records))
    latent = latent + np.sqrt(0.2) * rng.standard_normal((CONTENDERS, seeds, records))
    return (latent + steps[:, :, fold] > 0).astype(float), fold


def difference(right: Right, fold: NDArray[np.int64], one: int, other: int) -> Evidence:
    """Return the evidence of one pair, seeds paired, as the judge does."""
    found = []
    for k in range(fold.max() + 1):
        members = np.flatnonzero(fold == k)
        apart = right[one][:, members] - right[other][:, members]
        means = apart.mean(axis=1)
        influence = apart - means[:, None]
        found.append(Fold.of_seeds(means, influence, members, len(members), steady=False))
    return weigh(found)


def others(right: Right, fold: NDArray[np.int64], one: int, other: int) -> list[float]:
    """Return the p-values of a plain t-test over trainings, the corrected one, and McNemar's."""
    apart = right[one] - right[other]
    means = np.array([apart[:, fold == k].mean(axis=1) for k in range(fold.max() + 1)])
    trained = means.ravel()
    spread = trained.std(ddof=1) / np.sqrt(len(trained))
    plain = 2 * stats.t.sf(abs(trained.mean()) / spread, len(trained) - 1) if spread else 1.0
    corrected = corrected_t(means.mean(axis=1), 1 / fold.max())[1]
    return [plain, corrected, mcnemar(int((apart[0] > 0).sum()), int((apart[0] < 0).sum()))]


OTHERS = ("plain t-test", "corrected t-test", "McNemar")
SETTINGS: dict[str, Callable] = {
    "learners, 200 records, 3 seeds": partial(learners, records=200, seeds=3, features=30),
    "learners, 100 records, 50 features": partial(learners, records=100, seeds=3, features=50),
    "learners, strong signal in common": partial(
        learners, records=200, seeds=2, features=20, shared=1.0
    ),
    "learners, one seed, ten folds": partial(learners, records=200, seeds=1, features=30, folds=10),
    "scores, 1,000 records, training moves 1 point": partial(
        scores, records=1000, seeds=3, chance=0.01
    ),
    "scores, one seed, training moves 2 points": partial(
        scores, records=1000, seeds=1, chance=0.02
    ),
}
BEYOND: dict[str, Callable] = {
    "learners near guessing, 200 records": partial(
        learners, records=200, seeds=3, features=30, own=0.05
    ),
}
PAIRS = list(itertools.combinations(range(CONTENDERS), 2))


def null(draw: Callable, comparisons: int, seed: int) -> dict[str, Any]:
    """Return false alarms of families, by us and by other tests, and coverage of our intervals."""
    rng = np.random.default_rng(seed)
    alarms = covered = 0
    by_others = np.zeros(len(OTHERS))
    for _ in range(comparisons):
        sample = draw(rng)
        found = [difference(*sample, *pair) for pair in PAIRS]
        p_values = np.array([others(*sample, *pair) for pair in PAIRS])
        by_others += [min(holm(column)) < 0.05 for column in p_values.T]
        alarms += min(holm([one.p_value() for one in found])) < 0.05
        covered += sum(low <= 0 <= high for low, high in (one.interval() for one in found))
    return {
        "comparisons": comparisons,
        "false_alarms": alarms / comparisons,
        "coverage": covered / (comparisons * len(PAIRS)),
        "false_alarms_by": dict(zip(OTHERS, (by_others / comparisons).tolist(), strict=True)),
    }


def power(comparisons: int, seed: int) -> dict[str, float]:
    """Plant the difference that reports call detectable, and count how often it is found."""
    rng = np.random.default_rng(seed)
    draw = partial(scores, records=1000, seeds=3, chance=0.005)
    alpha = 0.05 / len(PAIRS)
    pilot = [difference(*draw(rng), 0, 1) for _ in range(max(comparisons // 10, 20))]
    lead = float(np.mean([detectable(one.error, one.degrees, alpha) for one in pilot]))
    found = [difference(*draw(rng, lead=lead), 0, 1) for _ in range(comparisons)]
    hit = sum(one.p_value() < alpha and one.value > 0 for one in found)
    return {"planted": lead, "computed": 0.8, "found": hit / comparisons}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    found = {
        part: {
            name: null(draw, chosen.comparisons, chosen.seed + number)
            for number, (name, draw) in enumerate(settings.items())
        }
        for part, settings in (("null", SETTINGS), ("beyond", BEYOND))
    }
    print(json.dumps({**found, "power": power(chosen.comparisons, chosen.seed)}, indent=1))


if __name__ == "__main__":
    main()
