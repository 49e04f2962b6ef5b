"""What classification learns, encodes and loses."""

import math

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast
from transformers.modeling_outputs import SequenceClassifierOutput

from lightune.errors import ConfigError, ConfigErrors, DataError
from lightune.settings import parse
from lightune.tasks.base import tasks
from lightune.tasks.classification import Classification
from lightune.types import Batch, Place, Record
from tests.tasks.records import rows, state

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h"]


@pytest.fixture(scope="module")
def tokenizer():
    ids = {name: i for i, name in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])}
    raw = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", model_max_length=4
    )
    made.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return made


def loss(task, logits, targets, what):
    batch = Batch({}, targets, list(range(len(logits))))
    return task.loss(SequenceClassifierOutput(logits=logits), batch, what)


def test_is_found_by_its_name_and_has_few_settings():
    assert tasks()["classification"] is Classification
    assert len(Classification.model_fields) <= 12
    assert all(info.description for info in Classification.model_fields.values())
    assert set(Classification().columns()) == {"text", "text_pair", "label"}


class TestLearn:
    def test_labels_counts_and_head(self):
        task = Classification()
        learnt = task.learn(rows("10", "2", "10"))
        assert learnt == {
            "labels": ["2", "10"],
            "counts": [1, 2],
            "multi_label": False,
            "class_weights": None,
            "pair": False,
            "notes": [],
        }
        head = task.head(learnt)
        assert (head.kind, head.labels) == ("sequence_classification", ("2", "10"))
        assert not head.multi_label

    def test_multi_label_is_decided_from_the_data_and_said(self):
        learnt = Classification().learn(rows("b|a", "a|c", "c"))
        assert (learnt["labels"], learnt["counts"]) == (["a", "b", "c"], [2, 1, 2])
        assert learnt["multi_label"]
        assert "multi-label" in learnt["notes"][0]
        assert Classification().head(learnt).multi_label

    def test_the_users_word_wins(self):
        learnt = Classification(multi_label=False).learn(rows("b|a", "a|c", "c"))
        assert learnt["labels"] == ["a|c", "b|a", "c"]
        assert learnt["notes"] == []
        assert Classification(multi_label=True).learn(rows("a", "b"))["multi_label"]

    @pytest.mark.parametrize(
        ("task", "cells", "said"),
        [
            (Classification(), ["spam"] * 3, "all labelled 'spam'"),
            (Classification(multi_label=True), ["a", "a"], "all labelled 'a'"),
            (Classification(multi_label=True), [[], []], "no label"),
            (Classification(), ["a", None], "d.csv:3: the label is missing"),
            (Classification(), ["a", "b", "c", ["a", "b"]], "multi_label: true"),
            (Classification(), [], "no training records"),
        ],
    )
    def test_what_cannot_be_learnt(self, task, cells, said):
        with pytest.raises(DataError) as error:
            task.learn(rows(*cells))
        assert said in str(error.value)
        assert error.value.mend

    def test_free_text_is_refused_by_a_look_at_all_records(self):
        ids = rows(*(f"id{i}" for i in range(200)))
        with pytest.raises(DataError, match="looks like text or ids"):
            Classification().check(ids)
        # a small part of many real labels is learnt: only the whole is judged
        assert len(Classification().learn(ids)["labels"]) == 200
        Classification(multi_label=True).check(ids)
        Classification().check(rows("a", "b"))

    def test_what_a_trained_model_says_of_its_data(self):
        task = Classification()
        pairs = task.learn(rows("a", "b", text_pair="x"))
        assert (task.several_labels(), task.several_labels(pairs)) == (None, False)
        assert Classification(multi_label=False).several_labels() is False
        assert task.several_labels(task.learn(rows(["a"], ["b"]))) is True
        assert task.needed_after(pairs) == ("text_pair",)
        assert task.needed_after(task.learn(rows("a", "b"))) == ()

    def test_one_label_that_is_sometimes_absent_can_be_learnt(self):
        assert Classification(multi_label=True).learn(rows(["a"], []))["labels"] == ["a"]

    def test_balanced_weights_are_scikit_learns(self):
        cells = ["a"] * 7 + ["b"] * 2 + ["c"]
        learnt = Classification(class_weights="balanced").learn(rows(*cells))
        expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=cells)
        assert learnt["class_weights"] == pytest.approx(expected.tolist())

    def test_named_weights_have_mean_one_over_the_records(self):
        learnt = Classification(class_weights={"b": 4}).learn(rows("a", "a", "b"))
        assert learnt["class_weights"] == pytest.approx([0.5, 2.0])

    def test_balanced_multi_label_weighs_positives_like_negatives(self):
        task = Classification(multi_label=True, class_weights="balanced")
        learnt = task.learn(rows("a", "a|b", "a", "a|c"))
        assert learnt["class_weights"] == [0.25, 3.0, 3.0]

    def test_a_weight_for_no_label(self):
        with pytest.raises(ConfigError, match="'spma'") as error:
            Classification(class_weights={"spma": 2.0}).learn(rows("ham", "spam"))
        assert error.value.mend == "class_weights: {spam: 2.0}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"class_weights": "ballanced"},
        {"class_weights": {"a": 0}},
        {"class_weights": {"a": math.nan}},
        {"class_weights": {}},
        {"label_smoothing": 1},
        {"label_smoothing": -0.1},
        {"label_smoothing": math.nan},
        {"threshold": 0},
        {"threshold": 1.5},
        {"lable": "x"},
    ],
)
def test_wrong_settings(wrong):
    with pytest.raises(ConfigErrors) as error:
        parse(Classification, wrong, "task")
    assert len(error.value.mistakes) == 1
    assert error.value.mend


def test_labels_that_yaml_reads_as_numbers():
    task = parse(Classification, {"class_weights": {0: 1, True: 3}}, "task")
    assert task.class_weights == {"0": 1.0, "true": 3.0}


class TestEncode:
    def test_ids_targets_and_order(self, tokenizer):
        found = Classification().encode(rows("y", "x"), tokenizer, state("x", "y"), 16)
        assert [e.inputs["input_ids"] for e in found] == [[2, 4, 5, 3]] * 2
        assert [(e.index, e.target, e.dropped) for e in found] == [(0, 1, 0), (1, 0, 0)]
        assert "attention_mask" not in found[0].inputs

    def test_unlabelled_records(self, tokenizer):
        bare = [Record({"text": "a"}, Place("p.csv", 1))]
        assert Classification().encode(bare, tokenizer, state("x", "y"), 16)[0].target is None

    @pytest.mark.parametrize("max_length", [3, 4, 5, 9, 10, 11])
    def test_dropped_tokens_are_counted_exactly(self, tokenizer, max_length):
        text = " ".join(WORDS)
        records = [*rows("x", text=text), *rows("x", text="a")]
        long, short = Classification().encode(records, tokenizer, state("x", "y"), max_length)
        kept = min(len(WORDS), max_length - 2)
        assert long.inputs["input_ids"] == [2, *range(4, 4 + kept), 3]
        assert long.dropped == len(WORDS) - kept
        assert (short.inputs["input_ids"], short.dropped) == ([2, 4, 3], 0)

    def test_the_longer_of_a_pair_is_cut(self, tokenizer):
        records = rows("x", text="a b c d e f", text_pair="g")
        (found,) = Classification().encode(records, tokenizer, state("x", "y"), 8)
        assert found.inputs["input_ids"] == [2, 4, 5, 6, 7, 3, 10, 3]
        assert found.inputs["token_type_ids"] == [0, 0, 0, 0, 0, 0, 1, 1]
        assert found.dropped == 2

    def test_trained_on_pairs_needs_pairs(self, tokenizer):
        learnt = Classification().learn(rows("x", "y", text_pair="c"))
        assert learnt["pair"]
        with pytest.raises(DataError, match=r"d\.csv:2: the field 'text_pair' is missing"):
            Classification().encode(rows("x"), tokenizer, learnt, 16)

    def test_trained_without_pairs_reads_none(self, tokenizer):
        learnt = Classification().learn(rows("x", "y"))
        (found,) = Classification().encode(rows("x", text_pair="c"), tokenizer, learnt, 16)
        assert found.inputs["input_ids"] == [2, 4, 5, 3]

    @pytest.mark.parametrize(("pair", "max_length"), [(False, 2), (False, 0), (True, 4)])
    def test_no_room_for_text(self, tokenizer, pair, max_length):
        records = rows("x", **({"text_pair": "c"} if pair else {}))
        with pytest.raises(ConfigError, match="max_length"):
            Classification().encode(records, tokenizer, state("x", "y"), max_length)

    def test_a_text_without_tokens_gets_one(self):
        raw = Tokenizer(models.WordLevel({"[PAD]": 0, "a": 1}, unk_token="[PAD]"))
        bare = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]")
        (found,) = Classification().encode(rows("x", text=""), bare, state("x", "y"), 8)
        assert found.inputs["input_ids"] == [0]
        bare.pad_token = None
        with pytest.raises(DataError, match="no tokens"):
            Classification().encode(rows("x", text=""), bare, state("x", "y"), 8)

    def test_unknown_label_is_named_with_its_place(self, tokenizer):
        records = rows("ham", "spma", "eggs")
        with pytest.raises(DataError, match=r"d\.csv:3.*'spma'.*1 further row") as error:
            Classification().encode(records, tokenizer, state("ham", "spam"), 16)
        assert "'spam'" in error.value.mend

    def test_nothing(self, tokenizer):
        assert Classification().encode([], tokenizer, state("x", "y"), 16) == []


class TestTargetsAndLoss:
    def test_targets(self, tokenizer):
        task, single, multi = Classification(), state("x", "y"), state("x", "y", "z", multi=True)
        one = task.targets(task.encode(rows("y", "x"), tokenizer, single, 8), single, 8)
        assert one.tolist() == [1, 0]
        assert one.dtype == torch.long
        several = task.encode(rows("z|x", []), tokenizer, multi, 8)
        assert task.targets(several, multi, 8).tolist() == [[1, 0, 1], [0, 0, 0]]
        bare = task.encode([Record({"text": "a"}, Place("p", 1))], tokenizer, single, 8)
        with pytest.raises(DataError, match="no label"):
            task.targets(bare, single, 8)

    @pytest.mark.parametrize("smoothing", [0.0, 0.1])
    @pytest.mark.parametrize("weights", [None, [0.5, 1.0, 3.0]])
    def test_single_label_loss_is_the_formula(self, smoothing, weights):
        torch.manual_seed(0)
        logits, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
        task = Classification(label_smoothing=smoothing)
        found = loss(task, logits, targets, state("x", "y", "z", weights=weights))
        w = torch.tensor(weights or [1.0, 1.0, 1.0])
        share = F.one_hot(targets, 3) * (1 - smoothing) + smoothing / 3
        expected = -(share * w * torch.log_softmax(logits, 1)).sum() / 6
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("smoothing", [0.0, 0.2])
    @pytest.mark.parametrize("weights", [None, [0.5, 3.0]])
    def test_multi_label_loss_is_the_formula(self, smoothing, weights):
        torch.manual_seed(0)
        logits, targets = torch.randn(4, 2), torch.tensor([[1.0, 0], [1, 1], [0, 0], [0, 1]])
        task = Classification(label_smoothing=smoothing)
        found = loss(task, logits, targets, state("x", "y", multi=True, weights=weights))
        w = torch.tensor(weights or [1.0, 1.0])
        y = targets * (1 - smoothing) + smoothing / 2
        p = torch.sigmoid(logits)
        expected = -(w * y * p.log() + (1 - y) * (1 - p).log()).mean()
        torch.testing.assert_close(found, expected)

    def test_weights_act_in_a_batch_of_one(self):
        """torch's weighted mean divides by the weights and would undo them here."""
        weighted = state("x", "y", weights=[1.0, 5.0])
        logits, target = torch.tensor([[0.3, -0.2]]), torch.tensor([1])
        plain = loss(Classification(), logits, target, state("x", "y"))
        torch.testing.assert_close(loss(Classification(), logits, target, weighted), 5 * plain)

    @pytest.mark.parametrize("multi", [False, True])
    def test_loss_is_float32_and_finite_for_low_precision_and_extremes(self, multi):
        logits = torch.tensor([[6e4, -6e4], [-6e4, 6e4]], dtype=torch.float16, requires_grad=True)
        targets = torch.tensor([[0.0, 1], [1, 1]]) if multi else torch.tensor([1, 1])
        found = loss(Classification(), logits, targets, state("x", "y", multi=multi))
        found.backward()
        assert found.dtype == torch.float32
        assert torch.isfinite(found)
        assert torch.isfinite(logits.grad).all()

    def test_no_targets_no_loss(self):
        with pytest.raises(DataError, match="no loss"):
            loss(Classification(), torch.zeros(0, 2), None, state("x", "y"))
