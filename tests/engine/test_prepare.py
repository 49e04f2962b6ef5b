"""A plan put into effect: formats of frozen, trained and new weights; attention; dropout."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertForSequenceClassification

from lightune.engine.plan import Plan
from lightune.engine.prepare import prepare
from lightune.methods.base import train_copies
from lightune.nn.dropout import PooledDropout
from lightune.nn.lowrank import LowRankLinear

BF16 = Plan(dtype="bfloat16", attention="lightune", dropout="pooled")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64,
    )  # fmt: skip
    return BertForSequenceClassification(config).requires_grad_(False).eval()


IDS = torch.arange(14).view(2, 7)


def test_float32_changes_no_number(model):
    before = model(input_ids=IDS).logits
    prepared = prepare(model, Plan(dtype="float32", attention="lightune", dropout="pooled"))
    torch.testing.assert_close(before, model(input_ids=IDS).logits)
    assert prepared.pairs == []
    assert model.config._attn_implementation == "lightune"
    assert any(isinstance(m, PooledDropout) for m in model.modules())


def test_bfloat16_is_near_and_frozen_weights_are_held_in_it_once(model):
    before = model(input_ids=IDS).logits
    prepare(model, BF16, float32_modules=["classifier"])
    after = model(input_ids=IDS).logits
    assert after.dtype == torch.float32
    torch.testing.assert_close(before, after, rtol=0.05, atol=0.05)
    formats = {
        path: p.dtype for path, p in model.named_parameters() if not path.startswith("classifier")
    }
    assert set(formats.values()) == {torch.bfloat16}
    assert model.classifier.weight.dtype == torch.float32


def test_low_rank_factors_stay_float32(model):
    path = "bert.encoder.layer.0.attention.self.query"
    model.set_submodule(path, LowRankLinear(model.get_submodule(path), 4, 2.0))
    prepared = prepare(model, BF16)
    layer = model.get_submodule(path)
    assert (layer.A.dtype, layer.B.dtype) == (torch.float32, torch.float32)
    assert layer.base.weight.dtype == torch.bfloat16
    assert prepared.pairs == []


def test_trained_copies_become_masters_with_images(model):
    path = "bert.encoder.layer.1.output.dense.weight"
    attachment = train_copies(model, [path], "tensors")
    prepared = prepare(model, BF16)
    ((master, image),) = prepared.pairs
    assert master is attachment.trainable[path]
    assert image is model.get_parameter(path)
    assert (master.dtype, image.dtype) == (torch.float32, torch.bfloat16)
    assert image.requires_grad
    with torch.no_grad():
        master.add_(1)
    prepared.refresh()
    assert torch.equal(image, master.bfloat16())


def test_masters_go_to_the_device_with_their_images(model, monkeypatch):
    """On a GPU the optimiser would otherwise meet a master in the machine's own memory."""
    path = "bert.encoder.layer.1.output.dense.weight"
    train_copies(model, [path], "tensors")
    moved = {}

    def to(module, device):
        moved.update({id(p): device for p in module.parameters()})

    monkeypatch.setattr(nn.Module, "to", to)
    prepared = prepare(model, BF16.model_copy(update={"device": "cuda"}))
    ((master, image),) = prepared.pairs
    assert (moved[id(master)], moved[id(image)]) == ("cuda", "cuda")


def test_tied_weights_stay_tied(model):
    model.bert.pooler.dense.weight = model.bert.encoder.layer[0].attention.self.query.weight
    prepare(model, BF16)
    tied = model.bert.encoder.layer[0].attention.self.query.weight
    assert model.bert.pooler.dense.weight is tied


def test_dropout_can_be_off_or_torchs_own(model):
    prepare(model, Plan(dropout="torch"))
    assert all(m.p == 0.1 for m in model.modules() if isinstance(m, nn.Dropout))
    prepare(model, Plan(dropout="off"))
    assert all(m.p == 0 for m in model.modules() if isinstance(m, nn.Dropout))


def test_the_autograd_form_of_low_rank_layers_can_be_forced(model):
    path = "bert.encoder.layer.0.attention.self.query"
    model.set_submodule(path, LowRankLinear(model.get_submodule(path), 4, 2.0))
    prepare(model, Plan(lowrank=False))
    assert model.get_submodule(path).own_backward is False
