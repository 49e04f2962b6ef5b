"""Baselines: scikit-learn by hand gives the same, and nothing of the test part is learnt."""

import time

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from small_runs import recipe

from lightune.compare import baselines
from lightune.compare.bench import Bench
from lightune.compare.contenders import (
    EMBEDDINGS,
    EMBEDDINGS_RIDGE,
    MAJORITY,
    MEAN,
    TFIDF,
    TFIDF_RIDGE,
)
from lightune.data.load import load_splits
from lightune.recipe import load_recipe
from lightune.types import Place, Record
from tests.compare.small import prepared

KINDS = ["binary", "multi-class", "multi-label", "pair"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("baseline", [TFIDF, EMBEDDINGS])
def test_what_words_tell_is_learnt_in_every_kind_of_labels(tiny, tmp_path, kind, baseline):
    made, bench, folds = prepared(tiny("bert"), tmp_path, kind, 60)
    fold = folds[0]
    answer = baselines.answer(baseline, made, fold.train, fold.test, bench)
    tested = [bench.records[i] for i in fold.test]
    scores = made.task.score(answer.predictions, tested, answer.state, intervals=False)
    majority = baselines.answer(MAJORITY, made, fold.train, fold.test, bench)
    floor = made.task.score(majority.predictions, tested, majority.state, intervals=False)
    if baseline == TFIDF:  # the label is a word of the text
        assert scores.metrics["macro_f1"].value > 0.85
    assert floor.metrics["macro_f1"].value <= 0.67
    assert answer.trained_weights > 0 < answer.latency
    assert answer.throughput > 0


def test_the_majority_class_is_the_baseline_that_evaluate_shows(tiny, tmp_path):
    made, bench, folds = prepared(tiny("bert"), tmp_path, "multi-class", 40)
    fold = folds[0]
    answer = baselines.answer(MAJORITY, made, fold.train, fold.test, bench)
    tested = [bench.records[i] for i in fold.test]
    scores = made.task.score(answer.predictions, tested, answer.state, intervals=False)
    shown = scores.baselines["majority_class"]
    assert scores.metrics["accuracy"].value == shown["accuracy"]
    assert scores.metrics["macro_f1"].value == shown["macro_f1"]


def test_tf_idf_is_scikit_learns_at_a_strength_chosen_in_the_training_part(tiny, tmp_path):
    made, bench, folds = prepared(tiny("bert"), tmp_path, "multi-class", 60)
    fold = folds[1]
    answer = baselines.answer(TFIDF, made, fold.train, fold.test, bench)
    texts, names = zip(*((r.values["text"], r.values["label"]) for r in bench.records), strict=True)
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=baselines.WORD)
    train = words.fit_transform([texts[i] for i in fold.train])
    test = words.transform([texts[i] for i in fold.test])
    said = [p.value for p in answer.predictions]
    by_strength = [
        LogisticRegression(C=c, max_iter=1000)
        .fit(train, [names[i] for i in fold.train])
        .predict_proba(test)
        for c in baselines.STRENGTHS
    ]
    ours = np.array([list(p.scores.values()) for p in answer.predictions])
    assert any(np.allclose(ours, shares, atol=1e-6) for shares in by_strength)
    assert f1_score([names[i] for i in fold.test], said, average="macro") > 0.9


def test_characters_are_read_where_words_are_not_set_apart(tiny, tmp_path):
    chinese = ["这部电影很好看", "这部电影很难看"]
    assert baselines._vectorizer(chinese).analyzer == "char"
    assert baselines._vectorizer(["a good film", "電影"]).analyzer == "word"
    table = [{"text": f"{chinese[i % 2]}，第{i}次", "label": "好坏"[i % 2]} for i in range(40)]
    made = load_recipe(recipe(tiny("bert"), data=table))
    data = made.data.model_copy(update={"test": 0.0})
    records = load_splits(data, made.task.fields, made.task.columns()).train
    bench = Bench(records, tmp_path)
    answer = baselines.answer(TFIDF, made, range(30), range(30, 40), bench)
    assert [p.value for p in answer.predictions] == [r.values["label"] for r in records[30:]]


@pytest.mark.parametrize("baseline", [TFIDF_RIDGE, EMBEDDINGS_RIDGE, MEAN])
def test_numbers_are_estimated(tiny, tmp_path, baseline):
    table = [{"text": " ".join(["good"] * (i % 6) + ["bad"] * 3), "label": float(i % 6)}
             for i in range(60)]  # fmt: skip
    for i, row in enumerate(table):
        row["text"] += f" number {i}"
    made = load_recipe(recipe(tiny("bert"), data=table, task="regression"))
    data = made.data.model_copy(update={"test": 0.0})
    records = load_splits(data, made.task.fields, made.task.columns()).train
    bench = Bench(records, tmp_path)
    answer = baselines.answer(baseline, made, range(48), range(48, 60), bench)
    scores = made.task.score(answer.predictions, records[48:], answer.state, intervals=False)
    if baseline == MEAN:
        mean = np.mean([r.values["label"] for r in records[:48]])
        assert [p.value for p in answer.predictions] == [pytest.approx(mean)] * 12
    elif baseline == TFIDF_RIDGE:
        assert scores.metrics["r2"].value > 0.5


@pytest.mark.parametrize("baseline", [TFIDF, EMBEDDINGS, MAJORITY])
def test_what_is_tested_changes_nothing_that_is_learnt(tiny, tmp_path, baseline):
    """Another test part, other words and labels: the first record's answer stays the same."""
    made, bench, folds = prepared(tiny("bert"), tmp_path, "binary", 40)
    fold = folds[0]
    held = set(fold.test[1:])
    other = [
        Record({"text": f"whole other words {i}", "label": "pos"}, Place("f", i))
        if i in held
        else r
        for i, r in enumerate(bench.records)
    ]
    answers = [
        baselines.answer(baseline, made, fold.train, fold.test, Bench(records, tmp_path))
        for records in (bench.records, other)
    ]
    one, two = (dict(a.predictions[0].scores) for a in answers)
    assert one == pytest.approx(two, rel=1e-3 if baseline == EMBEDDINGS else 1e-12)


def test_frozen_embeddings_are_the_mean_of_the_last_states(tiny, tmp_path):
    import torch

    made, bench, _ = prepared(tiny("bert"), tmp_path)
    head = made.task.head(made.task.learn(bench.records))
    base = bench.load(made.model, head, 0)
    texts = ["a good film", "bad"]
    found = baselines.Embedder(made, bench.load(made.model, head, 0))(texts)
    for row, text in enumerate(texts):
        inputs = base.tokenizer(text, return_tensors="pt")
        with torch.no_grad():
            states = base.model.base_model(**inputs).last_hidden_state[0]
        assert np.allclose(found[row], states.mean(0).numpy(), atol=1e-4)


def test_loading_the_model_is_no_cost_of_the_fold_that_asks_first(tiny, tmp_path, monkeypatch):
    made, bench, folds = prepared(tiny("bert"), tmp_path)
    real = baselines.Embedder.__init__

    def slow(*given):
        time.sleep(3)
        real(*given)

    monkeypatch.setattr(baselines.Embedder, "__init__", slow)
    first = baselines.answer(EMBEDDINGS, made, folds[0].train, folds[0].test, bench)
    assert 0 < first.seconds < 3
