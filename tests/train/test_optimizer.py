"""The optimiser against PyTorch's plain AdamW and Trainer's convention of weight decay."""

import math

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForSequenceClassification,
    ModernBertConfig,
    ModernBertForSequenceClassification,
    T5Config,
    T5ForSequenceClassification,
    Trainer,
)

from lightune.errors import MethodError
from lightune.train.optimizer import MIN_LOSS_SCALE, Optimizer, decays
from lightune.train.spec import OptimizerSpec

SMALL = {"vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
PADS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
MODELS = {
    "bert": lambda: BertForSequenceClassification(BertConfig(**SMALL, intermediate_size=8)),
    "gpt2": lambda: GPT2ForSequenceClassification(
        GPT2Config(vocab_size=30, n_embd=8, n_layer=1, n_head=2)
    ),
    "llama": lambda: LlamaForSequenceClassification(LlamaConfig(**SMALL, intermediate_size=8)),
    "modernbert": lambda: ModernBertForSequenceClassification(
        ModernBertConfig(**SMALL, **PADS, intermediate_size=8, cls_token_id=1, sep_token_id=2)
    ),
    "t5": lambda: T5ForSequenceClassification(
        T5Config(vocab_size=30, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    ),
}


def layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.Linear(5, 2))


def optimizer_of(model: nn.Module, masters=(), scale_loss=False, lr=0.1, **settings) -> Optimizer:
    weights = dict(model.named_parameters())
    groups = [{"params": list(weights.values()), "lr": lr}]
    return Optimizer(groups, weights, OptimizerSpec(**settings), masters, scale_loss)


@pytest.mark.parametrize("family", MODELS)
def test_weight_decay_falls_where_trainer_lets_it_fall(family):
    model = MODELS[family]()
    weights = dict(model.named_parameters())
    trainer = object.__new__(Trainer)  # the method reads nothing of the instance
    theirs = set(trainer.get_decay_parameter_names(model))  # tied weights under all their names
    assert {path for path, w in weights.items() if decays(path, w)} == theirs & weights.keys()


def test_steps_equal_pytorchs_adamw_with_clipping():
    ours, theirs = layers(), layers()
    optimizer = optimizer_of(ours, weight_decay=0.3, betas=(0.8, 0.9), epsilon=1e-6)
    decayed = [w for w in theirs.parameters() if w.ndim > 1]
    others = [w for w in theirs.parameters() if w.ndim == 1]
    oracle = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.3}, {"params": others, "weight_decay": 0.0}],
        lr=0.1,
        betas=(0.8, 0.9),
        eps=1e-6,
    )
    for step in range(5):
        x = torch.randn(7, 6, generator=torch.Generator().manual_seed(step)) * 5
        optimizer.backward(ours(x).square().sum())
        theirs(x).square().sum().backward()
        norm = nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        assert optimizer.clip() == pytest.approx(norm.item())
        assert norm > 1, "or clipping is not tested"
        for group in oracle.param_groups:
            group["lr"] = 0.1 / (step + 1)
        optimizer.step(1 / (step + 1))
        oracle.step()
        oracle.zero_grad()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_no_clipping_when_null():
    model = layers()
    optimizer = optimizer_of(model, max_grad_norm=None)
    optimizer.backward(1e3 * model(torch.randn(3, 6)).square().sum())
    before = model[0].weight.grad.clone()
    assert optimizer.clip() > 1
    assert torch.equal(model[0].weight.grad, before)


def test_each_group_keeps_its_own_rate_and_decay():
    model = layers()
    weights = dict(model.named_parameters())
    first, *rest = weights.values()
    groups = [{"params": [first], "lr": 0.5, "weight_decay": 0.7}, {"params": rest, "lr": 0.1}]
    optimizer = Optimizer(groups, weights, OptimizerSpec(weight_decay=0.01))
    optimizer.backward(model(torch.randn(3, 6)).sum())
    optimizer.step(0.5)
    found = {
        (group["lr"], group["weight_decay"]): len(group["params"])
        for group in optimizer.adamw.param_groups
    }
    assert found == {(0.25, 0.7): 1, (0.05, 0.01): 1, (0.05, 0.0): 4}


@pytest.mark.parametrize("fault", ["missing", "twice", "foreign", "half"])
def test_every_trained_weight_is_in_exactly_one_group(fault):
    weights = dict(layers().named_parameters())
    members = list(weights.values())
    if fault == "missing":
        members = members[1:]
    elif fault == "twice":
        members = [members[0], *members]
    elif fault == "foreign":
        weights = dict(list(weights.items())[1:])
    else:
        weights["0.weight"] = members[0] = nn.Parameter(members[0].detach().bfloat16())
    with pytest.raises(MethodError, match="exactly once"):
        Optimizer([{"params": members, "lr": 0.1}], weights, OptimizerSpec())


def paired(dtype=torch.bfloat16):
    """A float32 weight whose image in `dtype` is what the model computes with."""
    torch.manual_seed(1)
    model = nn.Linear(4, 3, bias=False)
    master = model.weight
    model.weight = nn.Parameter(master.detach().to(dtype))
    return model, master


def test_small_steps_are_not_lost_to_rounding():
    model, master = paired()
    image = model.weight
    groups = [{"params": [master], "lr": 1e-5}]
    optimizer = Optimizer(groups, {"weight": master}, OptimizerSpec(), [(master, image)])
    before = master.detach().clone()
    x = torch.randn(5, 4).bfloat16()
    for _ in range(50):
        optimizer.backward(model(x).sum())
        assert image.grad is None, "gradients live in float32 only"
        optimizer.step(1.0)
        assert torch.equal(image, master.bfloat16())
    moved = (master - before).abs()
    assert moved.min() > 4e-4  # 50 steps of 1e-5, each far below bfloat16's resolution
    assert not torch.equal(before.bfloat16(), image)


def test_gradients_of_images_add_up_in_float32():
    model, master = paired()
    optimizer = Optimizer(
        [{"params": [master], "lr": 0.1}],
        {"weight": master},
        OptimizerSpec(),
        [(master, model.weight)],
    )
    total = torch.zeros_like(master)
    for k in range(300):
        x = torch.full((1, 4), 1.0 if k == 0 else 2.0**-9).bfloat16()
        optimizer.backward(model(x).sum())
        total += x.float()
    assert torch.equal(master.grad, total)  # in bfloat16 1 + 2**-9 would stay 1


def test_moments_and_weights_survive_a_round_trip():
    one, other = layers(), layers()
    a, b = optimizer_of(one), optimizer_of(other)
    for seed in range(4):
        x = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))
        a.backward(one(x).square().sum())
        a.step(1.0)
        if seed == 1:
            weights, moments = a.copy_weights(), a.copy_moments()
    b.set_weights(weights)
    b.set_moments(moments)
    for seed in (2, 3):
        x = torch.randn(3, 6, generator=torch.Generator().manual_seed(seed))
        b.backward(other(x).square().sum())
        b.step(1.0)
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_fp16_scales_the_loss_and_leaves_overflowing_steps_out():
    model = layers()
    optimizer = optimizer_of(model, scale_loss=True)
    plain = layers()
    reference = optimizer_of(plain)
    x = torch.randn(3, 6)
    for chosen, net in ((optimizer, model), (reference, plain)):
        chosen.backward(net(x).square().sum())
    assert model[0].weight.grad.norm() > 1e3 * plain[0].weight.grad.norm()
    assert optimizer.clip() == pytest.approx(reference.clip(), rel=1e-4)
    optimizer.step(1.0)

    before, scale = optimizer.copy_weights(), optimizer.scaler.get_scale()
    optimizer.backward(model(x * math.inf).sum())
    assert not math.isfinite(optimizer.clip())
    assert optimizer.can_skip()
    optimizer.step(1.0)
    assert all(torch.equal(before[path], w) for path, w in optimizer.trainable.items())
    assert optimizer.scaler.get_scale() == scale / 2
    optimizer.scaler.update(MIN_LOSS_SCALE)
    assert not optimizer.can_skip()
