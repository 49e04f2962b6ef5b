"""LoRA against the paper's formula and against Hugging Face PEFT; its settings and its targets."""

import copy
import math
import warnings

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers.pytorch_utils import Conv1D

from lightune.errors import ConfigErrors, TargetError
from lightune.methods.lora import LoRA
from lightune.models.tiny import FAMILIES
from lightune.nn.surgery import find_linears, shortest_ends
from lightune.settings import parse
from lightune.types import HeadSpec

HEAD = HeadSpec("sequence_classification", ("no", "yes"))
IDS = torch.tensor([[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]])


SETTINGS = [{"start": "pissa"}, {"start": "olora"}, {"start": "gaussian", "rank": 4}]


def trained_weights(model: nn.Module) -> int:
    """rank * (in + out) for every linear layer of the blocks, and of a pooler behind them."""
    chosen = find_linears(model, "all-linear").values()
    return sum(8 * sum(layer.weight.shape) for layer in chosen)


def frozen(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers).requires_grad_(False)


@pytest.mark.parametrize("layer", [nn.Linear(16, 32), Conv1D(32, 16)], ids=["Linear", "Conv1D"])
@pytest.mark.parametrize(("stabilized", "scale"), [(False, 8 / 4), (True, 8 / math.sqrt(4))])
def test_forward_and_delta_are_equation_3(layer, stabilized, scale):
    torch.manual_seed(0)
    model = frozen(copy.deepcopy(layer))
    x, before = torch.randn(2, 5, 16), model[0].weight.clone()
    weight = before.T if isinstance(layer, Conv1D) else before
    bias = model[0].bias
    part = LoRA(rank=4, alpha=8, targets=["0"], rank_stabilized=stabilized).attach(model)
    A, B = model[0].A, nn.init.normal_(model[0].B)
    torch.testing.assert_close(model(x), x @ (weight + scale * B @ A).T + bias)
    delta = part.delta("0.weight")
    assert delta.shape == before.shape
    change = scale * B @ A
    torch.testing.assert_close(delta, change.T if isinstance(layer, Conv1D) else change)
    part.detach()
    assert torch.equal(model[0].weight, before)
    assert type(model[0]) is type(layer)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("stabilized", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_output_loss_and_gradients_match_peft(family, stabilized):
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    model = FAMILIES[family](HEAD, 0)[0]
    layers = list(find_linears(model, "all-linear"))
    config = peft.LoraConfig(
        r=4, lora_alpha=12, target_modules=layers, use_rslora=stabilized, lora_dropout=0.0
    )
    oracle = peft.get_peft_model(copy.deepcopy(model), config).eval()
    LoRA(rank=4, alpha=12, rank_stabilized=stabilized).attach(model)
    pairs = []
    torch.manual_seed(1)
    for path in layers:
        ours, theirs = model.get_submodule(path), oracle.base_model.model.get_submodule(path)
        for mine, other in ((ours.A, theirs.lora_A), (ours.B, theirs.lora_B)):
            mine.data = other["default"].weight.data.normal_(std=0.1).clone()
            pairs.append((mine, other["default"].weight))
    labels = torch.tensor([0, 1])
    mine, other = model(input_ids=IDS).logits, oracle(input_ids=IDS).logits
    losses = [nn.functional.cross_entropy(logits, labels) for logits in (mine, other)]
    for loss in losses:
        loss.backward()
    torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-7)
    for ours, theirs in pairs:
        rounding = 1e-5 * theirs.grad.abs().max().item()
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=rounding)


def test_dropout_is_off_in_a_model_that_is_in_eval_mode():
    model = frozen(nn.Linear(16, 16)).eval()
    LoRA(targets=["0"], dropout=0.5).attach(model)
    nn.init.normal_(model[0].B)
    x = torch.randn(3, 16)
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"rank": 0}, "rank"),
        ({"rank": -1}, "rank"),
        ({"alpha": 0}, "alpha"),
        ({"alpha": float("nan")}, "alpha"),
        ({"dropout": 1.0}, "dropout"),
        ({"targets": []}, "targets"),
        ({"targets": ""}, "targets"),
        ({"rnak": 8}, "rnak"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key(settings, key):
    with pytest.raises(ConfigErrors, match=rf"method\.{key}"):
        parse(LoRA, settings, "method")


def test_settings_cannot_be_changed():
    with pytest.raises(ValidationError):
        LoRA().rank = 4


def test_one_wrong_target_among_right_ones_is_an_error_where_peft_is_silent():
    """PEFT adapts the layers that match and says nothing of the typo."""
    peft = pytest.importorskip("peft", reason="shows the fault; pip install 'lightune[test]'")
    model = FAMILIES["llama"](HEAD, 0)[0]
    config = peft.LoraConfig(target_modules=["q_proj", "v_projj"])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        adapted = peft.get_peft_model(copy.deepcopy(model), config)
    assert not [w for w in said if "v_projj" in str(w.message)]
    paths = [name for name, _ in adapted.named_modules() if name.endswith(("q_proj", "v_proj"))]
    wrapped = [p for p in paths if hasattr(adapted.get_submodule(p), "lora_A")]
    assert 0 < len(wrapped) < len(paths)

    with pytest.raises(TargetError) as error:
        LoRA(targets=["q_proj", "v_projj"]).attach(model)
    assert "'v_projj'" in error.value.problem
    assert "v_proj" in error.value.mend
    assert not any(hasattr(m, "A") for m in model.modules()), "the model must stay as it was"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("chosen", ["all-linear", "first block", "every second"])
def test_the_targets_written_for_peft_match_the_adapted_layers_alone(family, chosen):
    model = FAMILIES[family](HEAD, 0)[0]
    layers = list(find_linears(model, "all-linear"))
    if chosen == "first block":
        layers = layers[:3]
    elif chosen == "every second":
        layers = layers[::2]
    ends = shortest_ends(model, layers)
    every = [path for path, _ in model.named_modules()]
    matched = [p for p in every if any(p == end or p.endswith(f".{end}") for end in ends)]
    assert sorted(matched) == sorted(layers)
    if family == "llama" and chosen == "all-linear":
        assert "q_proj" in ends
