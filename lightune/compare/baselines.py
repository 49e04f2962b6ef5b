"""Baselines: what a fine-tuned model must beat to be worth its cost.

majority class, mean       says the same of every record
TF-IDF                     word pairs, or runs of characters where words are not set apart by
                           spaces (Chinese, Japanese, Thai), and a linear model
zero-shot                  what a decoder would write, by the labels' names (`zero_shot.py`)
frozen embeddings          mean of the untouched base's last hidden states, and a linear model

Linear:     logistic regression for classes (one for each of several labels), ridge regression for
            numbers, from scikit-learn. Its strength of regularisation is chosen inside the
            training part, by a fifth of it, so that a weak baseline flatters nobody.
Pairs:      both texts are turned into features alone; the model reads |a - b| and a * b.
Invariants: nothing is learnt from the test part: not a word of the vocabulary, no mean, no scale.
Cost:       `seconds` includes the features of the training part.
Not here:   the untuned model, which is a trial without training (`trials.py`).
"""

from __future__ import annotations

import re
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from lightune.compare.bench import Bench
from lightune.compare.contenders import MAJORITY, MEAN, TFIDF, TFIDF_RIDGE, ZERO_SHOT
from lightune.compare.zero_shot import Chooser
from lightune.engine.batches import by_length, collate
from lightune.engine.plan import machine_plan, threads_of
from lightune.engine.prepare import prepare
from lightune.evaluate.predict import PREDICTION_BATCH, evaluating
from lightune.predictor import pad_id
from lightune.recipe import Recipe
from lightune.tasks.texts import encode_texts, text_of
from lightune.train.memory import peak_rss_mb, reset_peak
from lightune.types import Example, Place, Prediction, Record

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Of the linear model: C of logistic regression, 1 / alpha of ridge regression."""

DEFAULT_STRENGTH = 1.0
"""Where the training part is too small to choose by."""

FEWEST_TO_CHOOSE = 20
LONGEST = 512
UNSPACED = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]")
"""Characters of scripts that do not set words apart."""

WORD = r"(?u)\w+|[^\w\s]"
"""A word, or a sign: `!` says something of a review."""

TIMED = 5
"""Records predicted alone, of which the median time is the latency."""

Features = Any
"""A matrix with a row for each record, dense or sparse."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a contender said of a test part, and what it cost; fields as those of `Outcome`.

    Attributes:
        state: what the training part taught the task.
    """

    predictions: list[Prediction]
    state: dict[str, Any]
    seconds: float
    peak_memory: int
    trained_weights: int
    adapter_bytes: int
    latency: float
    throughput: float


def answer(
    kind: str, recipe: Recipe, train: Sequence[int], test: Sequence[int], bench: Bench
) -> Answer:
    """Fit a baseline on `train`, and ask it about `test`.

    Args:
        kind: one of those in `contenders.py`, but for the untuned model.
        train, test: positions among the bench's records.
    """
    task, records = recipe.task, bench.records
    trained, tested = [records[i] for i in train], [records[i] for i in test]
    reset_peak()
    begun = time.perf_counter()
    state = task.learn(trained)
    truth = task.truth(trained, state)
    features: Callable[[Sequence[Record]], Features]
    count, each = 1, 0.0
    if kind in (MAJORITY, MEAN):
        model, features = _constant(state), _nothing
    elif kind == ZERO_SHOT:
        model, features, each = _zero_shot(recipe, state, bench)
        count = 0
    else:
        features, each = _features(kind, recipe, state, trained, bench)
        if each:  # what is shared by all folds is counted by the record
            begun = time.perf_counter()
        model, count = _fitted(features(trained), truth, state, recipe)
    seconds = 0.0 if kind == ZERO_SHOT else time.perf_counter() - begun + each * len(trained)
    times = []
    for record in [tested[0], *tested[:TIMED]]:
        begun = time.perf_counter()
        model(features([record]))
        times.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    said = model(features(tested))
    took = time.perf_counter() - begun + each * len(tested)
    threshold = getattr(task, "threshold", 0.5)
    return Answer(
        predictions=[_prediction(i, row, state, threshold) for i, row in enumerate(said)],
        state=state,
        seconds=seconds,
        peak_memory=int(peak_rss_mb() * 1e6),
        trained_weights=count,
        adapter_bytes=8 * count,
        latency=statistics.median(times[1:]),
        throughput=len(tested) / max(took, 1e-9),
    )


def _constant(state: dict[str, Any]) -> Callable[[Features], np.ndarray]:
    """Return a model that says what is right most often, or the mean."""
    if "labels" not in state:
        return lambda rows: np.full(len(rows), state["mean"])
    counts = np.array(state["counts"], dtype=float)
    shares = counts / counts.sum()
    if state["multi_label"]:  # the label that most records have, as `evaluate` takes it
        shares = np.eye(len(counts))[int(np.argmax(counts))]
    return lambda rows: np.tile(shares, (len(rows), 1))


def _nothing(records: Sequence[Record]) -> Features:
    return np.zeros((len(records), 0))


def _zero_shot(
    recipe: Recipe, state: dict[str, Any], bench: Bench
) -> tuple[Callable[[Features], np.ndarray], Callable[[Sequence[Record]], Features], float]:
    """Return a model that says what a decoder would, what it reads, and its seconds a record.

    Every record is asked about once, whatever the fold: nothing is learnt.
    """
    labels, pair = tuple(state["labels"]), bool(state.get("pair"))

    def all_of_them() -> tuple[Chooser, dict[int, np.ndarray], float]:
        chooser = Chooser(recipe, labels, pair, bench)
        begun = time.perf_counter()
        shares = chooser(bench.records)
        known = {id(record): shares[i] for i, record in enumerate(bench.records)}
        return chooser, known, time.perf_counter() - begun

    key = ("zero-shot", recipe.model, recipe.train.max_length, labels, pair)
    chooser, known, spent = bench.once(key, all_of_them)

    def model(records: Features) -> np.ndarray:
        if len(records) == 1:  # alone, as it is when its time is taken
            return chooser(records)
        return np.stack([known[id(record)] for record in records])

    return model, lambda records: records, spent / len(bench.records)


def _prediction(index: int, row: Any, state: dict[str, Any], threshold: float) -> Prediction:
    """Return one record's prediction in the form of its task."""
    if "labels" not in state:
        return Prediction(index, float(row))
    names = state["labels"]
    scores = dict(zip(names, map(float, row), strict=True))
    if state["multi_label"]:
        return Prediction(index, [n for n in names if scores[n] >= threshold], scores)
    return Prediction(index, names[int(np.argmax(row))], scores)


def _features(
    kind: str, recipe: Recipe, state: dict[str, Any], trained: Sequence[Record], bench: Bench
) -> tuple[Callable[[Sequence[Record]], Features], float]:
    """Return what turns records into features, and the seconds that each record took before."""
    pair = bool(state.get("pair"))
    if kind in (TFIDF, TFIDF_RIDGE):
        texts = [text for record in trained for text in _texts(record, pair)]
        vectorizer = _vectorizer(texts)
        vectorizer.fit(texts)

        def counted(records: Sequence[Record]) -> Features:
            parts = _by_field(records, pair)
            return _joined([vectorizer.transform(part) for part in parts])

        return counted, 0.0

    head = recipe.task.head(state)

    def all_of_them() -> tuple[Embedder, dict[int, np.ndarray], float]:
        base = bench.load(recipe.model, head, recipe.train.seed)
        embed = Embedder(recipe, base, bench.check_time)
        begun = time.perf_counter()
        parts = [embed(part) for part in _by_field(bench.records, pair)]
        rows = np.stack(parts, axis=1)
        known = {id(record): rows[i] for i, record in enumerate(bench.records)}
        return embed, known, time.perf_counter() - begun

    key = ("embeddings", recipe.model, recipe.train.max_length, head, pair)
    embed, known, spent = bench.once(key, all_of_them)
    scaler = StandardScaler().fit(_joined(_parts([known[id(r)] for r in trained])))

    def embedded(records: Sequence[Record]) -> Features:
        if len(records) == 1:  # alone, as it is when its time is taken
            rows = [np.stack([embed(part)[0] for part in _by_field(records, pair)])]
        else:
            rows = [known[id(record)] for record in records]
        return scaler.transform(_joined(_parts(rows)))

    return embedded, spent / len(bench.records)


def _parts(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return `[fields, records, width]` from one `[fields, width]` for each record."""
    return list(np.stack(rows, axis=1))


def _texts(record: Record, pair: bool) -> list[str]:
    return [text_of(record, name) for name in (("text", "text_pair") if pair else ("text",))]


def _by_field(records: Sequence[Record], pair: bool) -> list[list[str]]:
    """Return the texts of each field, in the order of the records."""
    return [list(part) for part in zip(*(_texts(record, pair) for record in records), strict=True)]


def _vectorizer(texts: Sequence[str]) -> TfidfVectorizer:
    joined = "".join(texts)
    if 5 * len(UNSPACED.findall(joined)) > len(joined):
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), sublinear_tf=True)
    return TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=WORD)


def _joined(parts: Sequence[Features]) -> Features:
    """Return the features of single texts as they are; of pairs |a - b| and a * b."""
    if len(parts) == 1:
        return parts[0]
    one, other = parts
    if sparse.issparse(one):
        return sparse.hstack([abs(one - other), one.multiply(other)]).tocsr()
    return np.hstack([np.abs(one - other), one * other])


def _fitted(
    rows: Features, truth: list[Any], state: dict[str, Any], recipe: Recipe
) -> tuple[Callable[[Features], np.ndarray], int]:
    """Return a linear model and the number of its weights."""
    if "labels" not in state:
        targets = np.array(truth, dtype=float)
        strength = _strength(rows, targets, _ridge, recipe.train.seed)
        model = _ridge(rows, targets, strength)
        return model.predict, model.coef_.size + 1
    names, multi = state["labels"], state["multi_label"]
    sets = [set(t) if multi else {t} for t in truth]
    columns = np.array([[name in one for name in names] for one in sets])
    if not multi:
        classes = columns.argmax(1)
        strength = _strength(rows, classes, _logistic, recipe.train.seed)
        single = _logistic(rows, classes, strength)
        return single.predict_proba, single.coef_.size + single.intercept_.size
    several = [_one_label(rows, columns[:, k], recipe.train.seed) for k in range(len(names))]
    weights = sum(count for _, count in several)
    return lambda rows: np.stack([model(rows) for model, _ in several], axis=1), weights


def _one_label(
    rows: Features, holds: np.ndarray, seed: int
) -> tuple[Callable[[Features], np.ndarray], int]:
    """Return what says how probable one of several labels is."""
    if holds.all() or not holds.any():
        share = float(holds[0])
        return lambda rows: np.full(rows.shape[0], share), 1
    model = _logistic(rows, holds, _strength(rows, holds, _logistic, seed))
    return lambda rows: model.predict_proba(rows)[:, 1], model.coef_.size + 1


def _logistic(rows: Features, targets: np.ndarray, strength: float) -> LogisticRegression:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # then it is as good as it gets
        return LogisticRegression(C=strength, max_iter=1000).fit(rows, targets)


def _ridge(rows: Features, targets: np.ndarray, strength: float) -> Ridge:
    return Ridge(alpha=1 / strength).fit(rows, targets)


def _strength(rows: Features, targets: np.ndarray, fit: Callable[..., Any], seed: int) -> float:
    """Return the strength that foretells a fifth of the training part best."""
    count = len(targets)
    order = np.random.default_rng([seed, count]).permutation(count)
    held, rest = order[: count // 5], order[count // 5 :]
    numbers = targets.dtype == float
    if count < FEWEST_TO_CHOOSE or (not numbers and len(set(targets[rest])) < len(set(targets))):
        return DEFAULT_STRENGTH
    models = [fit(rows[rest], targets[rest], strength) for strength in STRENGTHS]
    scores = [_fits(model, rows[held], targets[held]) for model in models]
    return STRENGTHS[int(np.argmax(scores))]


def _fits(model: Any, rows: Features, targets: np.ndarray) -> float:
    """Return how well a model foretells targets: the mean log-likelihood, which tells apart what
    accuracy calls equal; of numbers, the negative squared error."""
    if isinstance(model, Ridge):
        return -float(np.mean((model.predict(rows) - targets) ** 2))
    columns = np.searchsorted(model.classes_, targets)
    shares = model.predict_proba(rows)[np.arange(len(targets)), columns]
    return float(np.mean(np.log(np.maximum(shares, 1e-12))))


class Embedder:
    """Turns texts into the mean of a base's last hidden states, `[texts, width]`.

    Args:
        recipe: its precision and longest input count.
        base: of which the head is left out.
        check: called before each batch; may raise.
    """

    def __init__(self, recipe: Recipe, base: Any, check: Callable[[], None] = lambda: None) -> None:
        self.check = check
        plan = machine_plan(recipe.train.precision, recipe.train.engine)
        self.plan = plan
        self.model = prepare(base.model, plan).model
        self.tokenizer = base.tokenizer
        self.longest = min(recipe.train.max_length or LONGEST, base.max_length)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        bare = [Record({"text": text}, Place("<texts>", i)) for i, text in enumerate(texts, 1)]
        encoded = encode_texts(bare, self.tokenizer, False, self.longest)
        examples = [Example(i, inputs) for i, (inputs, _) in enumerate(encoded)]
        model: Any = self.model
        reads = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
        result: np.ndarray | None = None
        with threads_of(self.plan), evaluating(model):
            for rows in by_length([len(example) for example in examples], PREDICTION_BATCH):
                self.check()
                chosen = [examples[i] for i in rows]
                batch = collate(chosen, pad_id(self.tokenizer), None, max_length=self.longest)
                inputs = {k: v.to(self.plan.device) for k, v in batch.inputs.items()}
                states = reads(**inputs).last_hidden_state.float()
                mask = inputs["attention_mask"].unsqueeze(-1)
                means = ((states * mask).sum(1) / mask.sum(1)).cpu().numpy()
                if result is None:
                    result = np.zeros((len(examples), means.shape[1]), dtype=np.float64)
                result[rows] = means
        return np.zeros((0, 1)) if result is None else result
