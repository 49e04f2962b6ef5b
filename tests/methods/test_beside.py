"""What is trained whole beside a method, where PEFT goes by the names' endings."""

import copy
import warnings

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    DistilBertConfig,
    DistilBertForSequenceClassification,
)

from lightune.errors import MethodError
from lightune.methods.base import methods
from lightune.methods.beside import modules_beside, train_new_modules
from lightune.methods.full import Full
from lightune.methods.head import Head
from lightune.methods.lora import LoRA
from lightune.models.tiny import FAMILIES
from lightune.nn.surgery import head_path
from lightune.types import HeadSpec

HEAD = HeadSpec("sequence_classification", ("no", "yes"))


def build(family: str) -> nn.Module:
    return FAMILIES[family](HEAD, 0)[0]


@pytest.fixture
def distilbert() -> nn.Module:
    sizes = {"vocab_size": 50, "dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2}
    return DistilBertForSequenceClassification(DistilBertConfig(**sizes)).requires_grad_(False)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_an_output_layer_that_gives_one_logit_a_label(family):
    model = build(family)
    head = model.get_submodule(head_path(model))
    last = [m for m in head.modules() if isinstance(m, nn.Linear)][-1]
    assert last.out_features == 2


@pytest.mark.parametrize("kind", [BertForMaskedLM, BertModel])
def test_a_language_model_or_a_bare_base_has_no_task_head(kind):
    config = BertConfig(
        vocab_size=30,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    model = kind(config).requires_grad_(False)
    assert head_path(model) is None
    assert train_new_modules(model, ()).trainable == {}
    with pytest.raises(MethodError, match="`head` needs an output layer"):
        Head().attach(model)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_a_new_head_is_trained_without_naming_a_task_type(distilbert):
    """PEFT trains a head by its name's ending, or leaves it frozen at random, in silence."""
    peft = pytest.importorskip("peft", reason="shows the fault; pip install 'lightune[test]'")
    config = peft.LoraConfig(target_modules=["q_lin"])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        untyped = peft.get_peft_model(copy.deepcopy(distilbert), config)
    trained = [name for name, p in untyped.named_parameters() if p.requires_grad]
    assert not any("classifier" in name for name in trained)
    assert not [w for w in said if "classifier" in str(w.message)]

    LoRA(targets=["q_lin"]).attach(distilbert)
    part = train_new_modules(distilbert, ["pre_classifier", "classifier"])
    assert part.modules == ("pre_classifier", "classifier")
    assert sorted(part.trainable) == [
        "classifier.bias",
        "classifier.weight",
        "pre_classifier.bias",
        "pre_classifier.weight",
    ]


def test_only_what_is_new_and_the_output_layer_are_trained_not_what_sounds_alike(distilbert):
    """By its ending, PEFT takes `pre_classifier` for a `classifier`."""
    assert modules_beside(distilbert, ()) == ("classifier",)
    assert modules_beside(distilbert, ["pre_classifier"]) == ("pre_classifier", "classifier")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_module_that_does_not_exist_is_an_error_where_peft_is_silent(distilbert):
    """PEFT accepts `modules_to_save=["clasifier"]` without a word."""
    peft = pytest.importorskip("peft", reason="shows the fault; pip install 'lightune[test]'")
    config = peft.LoraConfig(target_modules=["q_lin"], modules_to_save=["clasifier"])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        peft.get_peft_model(copy.deepcopy(distilbert), config)
    assert not [w for w in said if "clasifier" in str(w.message)]

    with pytest.raises(MethodError) as error:
        train_new_modules(distilbert, ["clasifier"])
    assert error.value.mend == "did you mean 'classifier'?"


def test_a_part_of_a_module_is_trained_with_the_whole():
    model = build("roberta")
    assert modules_beside(model, ["classifier.dense", "classifier.out_proj"]) == ("classifier",)


def test_with_full_nothing_is_trained_twice(distilbert):
    every = Full().attach(distilbert)
    beside = train_new_modules(distilbert, ["pre_classifier", "classifier"])
    assert beside.trainable == {}
    assert len(every.trainable) == len(list(distilbert.parameters()))


def test_a_target_inside_a_part_that_is_trained_whole_is_refused(distilbert):
    LoRA(targets=["pre_classifier"]).attach(distilbert)
    with pytest.raises(MethodError, match="'pre_classifier' is in a part that is trained whole"):
        train_new_modules(distilbert, ["pre_classifier"])


def test_tied_weights_are_trained_as_one_and_stay_tied():
    config = BertConfig(
        vocab_size=30,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    model = BertForMaskedLM(config).requires_grad_(False)
    embedding, before = model.get_input_embeddings(), model.state_dict()
    assert model.get_output_embeddings().weight is embedding.weight
    part = Full().attach(model)
    assert model.get_output_embeddings().weight is embedding.weight
    assert len(part.trainable) == len(list(model.parameters()))
    part.detach()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


@pytest.mark.parametrize("method", methods().values(), ids=list(methods()))
def test_every_method_says_what_it_is(method):
    assert method.summary
    assert "arXiv:" in method.paper
    assert 0 < method.learning_rate < 1
    assert all(field.description for field in method.model_fields.values())
    assert len(method.model_fields) <= 12
