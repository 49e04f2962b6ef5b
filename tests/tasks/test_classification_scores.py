"""What classification predicts from logits, and how it scores predictions."""

import math

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.metrics import f1_score
from transformers.modeling_outputs import SequenceClassifierOutput

from lightune.errors import DataError, ModelError
from lightune.tasks.classification import Classification
from lightune.types import Batch
from tests.tasks.records import at, rows, state


class TestDecode:
    def test_single_label_is_always_one_label_and_ties_go_to_the_first(self):
        logits = torch.tensor([[0.0, 0, 0], [-1e4, -1e4, -1e4], [0, 2, 2], [1, 0, 5]])
        found = Classification().decode(logits, at(4, 5, 6, 7), state("x", "y", "z"))
        assert [p.value for p in found] == ["x", "x", "y", "z"]
        assert [p.index for p in found] == [4, 5, 6, 7]
        for prediction in found:
            assert sum(prediction.scores.values()) == pytest.approx(1, abs=1e-12)
        assert found[3].scores["x"] == pytest.approx(math.exp(1) / (math.exp(1) + 1 + math.exp(5)))

    def test_multi_label_takes_all_from_the_threshold_on(self):
        logits = torch.tensor([[0.0, 3, -3], [-1, -1, -1]])
        found = Classification().decode(logits, at(0, 1), state("x", "y", "z", multi=True))
        assert [p.value for p in found] == [["x", "y"], []]
        strict = Classification(threshold=0.9)
        assert strict.decode(logits, at(0, 1), state("x", "y", "z", multi=True))[0].value == ["y"]

    def test_logits_are_float32_and_detached(self):
        output = SequenceClassifierOutput(
            logits=torch.zeros(1, 2, dtype=torch.bfloat16, requires_grad=True)
        )
        found = Classification().logits(output, Batch({}, None, [0]))
        assert found.dtype == torch.float32
        assert not found.requires_grad

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_no_number_is_no_prediction(self, bad):
        with pytest.raises(ModelError, match=r"1 of 2(.|\n)*record 9"):
            Classification().decode(torch.tensor([[0.0, 1], [bad, 0]]), at(8, 9), state("x", "y"))

    def test_another_models_logits(self):
        with pytest.raises(ModelError, match="3 labels"):
            Classification().decode(torch.zeros(1, 2), at(0), state("x", "y", "z"))

    def test_nothing(self):
        assert Classification().decode(torch.zeros(0, 2), at(), state("x", "y")) == []


class TestScore:
    def scored(self, cells, logits, task=None, train=None, **more):
        task = task or Classification()
        records = rows(*cells)
        learnt = task.learn(rows(*(train or cells)))
        predictions = task.decode(logits, at(*range(len(cells))), learnt)
        return task.score(predictions, records, learnt, **more), predictions, learnt

    def test_single_label(self):
        torch.manual_seed(0)
        cells = ["a", "b", "c", "a", "a", "b"] * 10
        scores, predictions, _ = self.scored(cells, torch.randn(60, 3))
        values = [p.value for p in predictions]
        assert list(scores.metrics) == [
            *("accuracy", "macro_f1", "weighted_f1", "matthews", "roc_auc", "calibration_error")
        ]
        assert Classification.deciding in scores.metrics
        assert scores.metrics["macro_f1"].value == pytest.approx(
            f1_score(cells, values, average="macro")
        )
        assert scores.metrics["accuracy"].low < scores.metrics["accuracy"].high
        assert scores.tables["confusion_matrix"]["labels"] == ["a", "b", "c"]
        assert np.sum(scores.tables["confusion_matrix"]["counts"]) == 60
        assert [row["label"] for row in scores.tables["per_class"]] == ["a", "b", "c"]
        assert [row["support"] for row in scores.tables["per_class"]] == [30, 20, 10]
        assert scores.tables["records"] == 60

    def test_baseline_is_the_majority_of_the_training_data(self):
        scores, _, _ = self.scored(["a", "b", "b"], torch.randn(3, 2), train=["a", "a", "b"])
        dummy = DummyClassifier(strategy="most_frequent").fit([[0]] * 3, ["a", "a", "b"])
        accuracy = dummy.score([[0]] * 3, ["a", "b", "b"])
        baseline = scores.baselines["majority_class"]
        assert baseline["accuracy"] == pytest.approx(accuracy)
        assert baseline["matthews"] == 0
        assert "roc_auc" not in baseline

    def test_predictions_find_their_records(self):
        torch.manual_seed(1)
        cells = ["a", "b", "b", "a", "b"] * 4
        scores, predictions, learnt = self.scored(cells, torch.randn(20, 2))
        shuffled = [predictions[i] for i in np.random.default_rng(0).permutation(20)]
        again = Classification().score(shuffled, rows(*cells), learnt)
        assert {k: v.value for k, v in again.metrics.items()} == pytest.approx(
            {k: v.value for k, v in scores.metrics.items()}
        )
        half = Classification().score(predictions[:10], rows(*cells), learnt)
        assert half.tables["records"] == 10

    def test_seed_decides_the_intervals(self):
        torch.manual_seed(1)
        cells, logits = ["a", "b", "b", "a"] * 8, torch.randn(32, 2)
        first, again, other = (self.scored(cells, logits, seed=s)[0] for s in (0, 0, 1))
        assert first == again
        assert first != other

    def test_multi_label(self):
        torch.manual_seed(0)
        cells = ["a|b", "c", [], ["b", "c"]] * 10
        scores, predictions, learnt = self.scored(
            cells, torch.randn(40, 3), Classification(multi_label=True)
        )
        names = learnt["labels"]
        truth = [[n in labels for n in names] for labels in (["a", "b"], ["c"], [], ["b", "c"])]
        guess = [[n in p.value for n in names] for p in predictions]
        assert scores.metrics["micro_f1"].value == pytest.approx(
            f1_score(truth * 10, guess, average="micro")
        )
        assert Classification.deciding in scores.metrics
        assert "confusion_matrix" not in scores.tables
        assert scores.baselines["majority_class"]["micro_f1"] > 0

    def test_class_without_test_records_is_said(self):
        scores, _, _ = self.scored(["a", "b"] * 5, torch.randn(10, 3), train=["a", "b", "c"])
        assert any("no record has the label: c" in note for note in scores.tables["notes"])

    @pytest.mark.parametrize(
        ("cells", "said"),
        [(["a", "zz"], r"d\.csv:3.*'zz'"), (["a", None], r"d\.csv:3: the label is missing")],
    )
    def test_records_that_cannot_be_scored(self, cells, said):
        learnt = state("a", "b")
        predictions = Classification().decode(torch.zeros(2, 2), at(0, 1), learnt)
        with pytest.raises(DataError, match=said):
            Classification().score(predictions, rows(*cells), learnt)

    def test_nothing_to_score(self):
        with pytest.raises(DataError, match="no records"):
            Classification().score([], [], state("a", "b"))
        multi = state("a", "b", multi=True)
        predictions = Classification().decode(torch.zeros(1, 2), at(0), multi)
        with pytest.raises(DataError, match="no record to be scored has any label"):
            Classification().score(predictions, rows([]), multi)

    def test_truth_for_users_metrics(self):
        assert Classification().truth(rows("b", "a"), state("a", "b")) == ["b", "a"]
        multi = state("a", "b", multi=True)
        assert Classification().truth(rows("b|a", []), multi) == [["a", "b"], []]
