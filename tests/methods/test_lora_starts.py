"""LoRA's starts: PiSSA and OLoRA against PEFT, which writes the residual into the base."""

import json

import pytest
import torch
from torch import nn

from lightune.errors import MethodError
from lightune.methods.lora import LoRA
from lightune.nn.surgery import find_linears
from tests.methods.peft_oracle import (
    EVERY,
    assert_exchanged,
    base,
    logits,
    move,
    parameters_of,
    with_peft,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

PAIRS = [
    (start, family)
    for start in ("pissa", "olora")
    for family in EVERY
    if (start, family) != ("olora", "gpt2")  # PEFT's OLoRA takes Conv1D's weight the wrong way
]


@pytest.mark.parametrize(("start", "family"), PAIRS)
def test_output_loss_and_gradients_match_peft(start, family):
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    model = base(family)
    layers = list(find_linears(model, "all-linear"))
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=layers, init_lora_weights=start)
    theirs = with_peft(model, config)
    part = LoRA(rank=4, alpha=6, start=start).attach(model)
    weights = parameters_of(theirs)
    for path in layers:  # the start itself: equal but for the sign of each pair
        ours = model.get_submodule(path)
        A, B = (weights[f"{path}.lora_{factor}.weight"] for factor in "AB")
        torch.testing.assert_close(ours.B @ ours.A, B @ A, rtol=1e-4, atol=1e-5)
    move(part, 0.05)
    with torch.no_grad():
        for path, parameter in part.trainable.items():
            weights[part.peft_names[path]].copy_(parameter)
    outputs = logits(model), logits(theirs)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=2e-5)
    for out in outputs:
        nn.functional.cross_entropy(out, torch.tensor([0, 2])).backward()
    largest = max(float(p.grad.abs().max()) for p in weights.values())
    for path, parameter in part.trainable.items():
        expected = weights[part.peft_names[path]].grad
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-3, atol=1e-4 * largest)


@pytest.mark.parametrize("stabilized", [False, True])
@pytest.mark.parametrize("start", ["pissa", "olora"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "t5"])
def test_peft_loads_it_on_the_unchanged_base_and_so_do_we(tmp_path, family, start, stabilized):
    method = LoRA(rank=3, alpha=5.5, start=start, rank_stabilized=stabilized)
    loaded = assert_exchanged(tmp_path / "adapter", family, method)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (6, True)
    assert any(path.endswith(".B0") for path in loaded)


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_the_base_is_never_written(start):
    model = base("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    output = logits(model)
    part = LoRA(start=start).attach(model)
    assert torch.equal(logits(model), output)
    move(part)
    assert not torch.equal(logits(model), output)
    part.detach()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert torch.equal(logits(model), output)


def test_gaussian_starts_as_peft_does():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 256)).requires_grad_(False)
    LoRA(rank=16, targets=["0"], start="gaussian").attach(model)
    assert float(model[0].A.std()) == pytest.approx(1 / 16, rel=0.05)
    assert float(model[0].A.abs().max()) > 3 / 16, "uniform values would end there"
    assert not model[0].B.any()


@pytest.mark.parametrize("start", ["pissa", "olora"])
def test_more_rank_than_a_weight_has_is_refused_before_anything_changes(start):
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 4)).requires_grad_(False)
    with pytest.raises(MethodError, match="rank 8") as error:
        LoRA(targets=["0", "1"], start=start).attach(model)
    assert "1: (32, 4)" in error.value.found
    assert type(model[0]) is nn.Linear
