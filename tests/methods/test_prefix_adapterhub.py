"""Prefix tuning against AdapterHub's `adapters` 1.3 (files made by tests/oracles), which leaves the
text's positions as they are."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from lightune.methods.prefix_tuning import PrefixTuning

FOLDER = Path(__file__).parents[1] / "oracles" / "adapterhub"
NAMES = {"wte": "", "control_trans.0": "inner.", "control_trans.2": "outer."}


def base(family: str) -> torch.nn.Module:
    described = json.loads((FOLDER / family / "config.json").read_text())
    cls = getattr(transformers, described["class"])
    model = cls(cls.config_class(**described["settings"]))
    model.load_state_dict(load_file(FOLDER / family / "model.safetensors"))
    return model.eval().requires_grad_(False)


def logits(model: torch.nn.Module, expected: dict[str, torch.Tensor]) -> torch.Tensor:
    return model(input_ids=expected["input_ids"], attention_mask=expected["attention_mask"]).logits


@pytest.mark.parametrize("kind", ["prefix_flat", "prefix_mlp"])
def test_logits_and_gradients_are_those_of_adapters(kind):
    model = base("bert")
    theirs = load_file(FOLDER / "bert" / kind / "adapter.safetensors")
    expected = load_file(FOLDER / "bert" / kind / "expected.safetensors")
    encoder = "mlp" if kind == "prefix_mlp" else "none"
    part = PrefixTuning(tokens=3, encoder=encoder, hidden=4).attach(model)
    pairs = []
    for name, tensor in theirs.items():
        module, _, weight = name.partition(".self_prefix.")[2].rpartition(".")
        path = f"bert.prefix.{NAMES[module]}{weight}" if module else "bert.prefix.weight"
        mine = part.trainable[path]
        mine.data = tensor.view_as(mine).clone()
        pairs.append((mine, expected[f"grad.{name}"]))
    assert len(pairs) == len(part.trainable)
    output = logits(model, expected)
    torch.testing.assert_close(output, expected["logits"], rtol=1e-5, atol=1e-6)
    output.square().sum().backward()
    for mine, other in pairs:
        rounding = 1e-5 * other.abs().max().item()
        torch.testing.assert_close(mine.grad.view_as(other), other, rtol=0, atol=rounding)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_decoders_use_the_prefix_where_adapters_masks_it_out(family):
    """`adapters` 1.3 turns the prefix's part of a boolean mask the wrong way round: its logits are
    the plain model's, and no gradient reaches the prefix."""
    model = base(family)
    (theirs,) = load_file(FOLDER / family / "prefix_flat" / "adapter.safetensors").values()
    expected = load_file(FOLDER / family / "prefix_flat" / "expected.safetensors")
    torch.testing.assert_close(logits(model, expected), expected["logits"])
    assert not any(t.any() for name, t in expected.items() if name.startswith("grad."))
    part = PrefixTuning(tokens=3).attach(model)
    (mine,) = part.trainable.values()
    mine.data = theirs.view_as(mine).clone()
    output = logits(model, expected)
    assert (output - expected["logits"]).abs().max() > 1e-2
    output.square().sum().backward()
    assert mine.grad.abs().max() > 1e-3
