"""IA3 against PEFT's, in both directions; its places in every family."""

import json

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from lightune.errors import MethodError, TargetError
from lightune.methods.ia3 import IA3
from lightune.nn.roles import find_roles
from lightune.nn.surgery import shape
from tests.methods.peft_oracle import EVERY, assert_equal, assert_exchanged, base, move, with_peft

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

SETTINGS = [{"inputs": []}, {"outputs": []}]

PLACES = {
    "bert": ({"key", "value"}, {"output.dense"}),
    "distilbert": ({"k_lin", "v_lin"}, {"lin2"}),
    "roberta": ({"key", "value"}, {"output.dense"}),
    "albert": ({"key", "value"}, {"ffn_output"}),
    "deberta": ({"key_proj", "value_proj"}, {"output.dense"}),
    "modernbert": ({"Wqkv"}, {"mlp.Wo"}),
    "gpt2": ({"c_attn"}, {"mlp.c_proj"}),
    "llama": ({"k_proj", "v_proj"}, {"down_proj"}),
    "gemma": ({"k_proj", "v_proj"}, {"down_proj"}),
    "phi3": ({"qkv_proj"}, {"down_proj"}),
    "gpt_neox": ({"query_key_value"}, {"dense_4h_to_h"}),
    "t5": ({"k", "v"}, {"wo"}),
    "bart": ({"k_proj", "v_proj"}, {"fc2"}),
}
"""`{family: (ends of the layers whose output is scaled, of those whose input is)}`."""


def trained_weights(model: nn.Module) -> int:
    """keys + values + inner width of the MLP for each attention and MLP of each block."""
    count = 0
    for block in find_roles(model).blocks:
        for attention in (block.attention, block.cross_attention):
            for path in (attention.key, attention.value, attention.fused) if attention else ():
                count += shape(model.get_submodule(path))[1] if path else 0
        count += shape(model.get_submodule(block.mlp.output))[0]
    return count


@pytest.mark.parametrize("family", PLACES)
def test_the_places_are_the_papers_in_every_block(family):
    model = base(family)
    part = IA3().attach(model)
    blocks = find_roles(model).blocks
    sides = {p.removesuffix(".factors"): model.get_submodule(p[:-8]).side for p in part.trainable}
    for index, side in enumerate(("output", "input")):
        paths = [path for path, of in sides.items() if of == side]
        ends = PLACES[family][index]
        assert all(path.endswith(tuple(f".{end}" for end in ends)) for path in paths)
        attentions = sum(1 + (block.cross_attention is not None) for block in blocks)
        assert len(paths) == (attentions * len(ends) if side == "output" else len(blocks))
    assert not any("attention.output" in path for path in sides)


@pytest.mark.parametrize("family", EVERY)
def test_output_loss_and_gradients_match_peft(family):
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    plain, model = base(family), base(family)
    part = IA3().attach(model)
    paths = [path.removesuffix(".factors") for path in part.trainable]
    inputs = [path for path in paths if model.get_submodule(path).side == "input"]
    config = peft.IA3Config(target_modules=paths, feedforward_modules=inputs)
    theirs = with_peft(plain, config)
    move(part, 0.3)
    assert_equal(model, part, theirs)


@pytest.mark.parametrize("family", EVERY)
def test_peft_loads_what_we_save_and_so_do_we(tmp_path, family):
    assert_exchanged(tmp_path / "adapter", family, IA3())
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert set(config["feedforward_modules"]) < set(config["target_modules"])


def test_named_layers_take_the_place_of_the_roles():
    model = base("llama")
    part = IA3(outputs=["q_proj"], inputs=["o_proj"]).attach(model)
    ends = {path.split(".")[-2] for path in part.trainable}
    assert ends == {"q_proj", "o_proj"}
    part.detach()
    part = IA3(outputs=[]).attach(model)
    assert {path.split(".")[-2] for path in part.trainable} == {"down_proj"}


def test_wrong_places_are_refused_and_the_model_is_left_as_it_was():
    model = base("llama")
    with pytest.raises(TargetError, match="'k_porj'"):
        IA3(outputs=["k_porj"]).attach(model)
    with pytest.raises(MethodError, match="same layers"):
        IA3(outputs=["down_proj"]).attach(model)
    with pytest.raises(ValidationError, match="neither"):
        IA3(outputs=[], inputs=[])
    without = nn.Sequential(nn.Linear(4, 4)).requires_grad_(False)
    with pytest.raises(MethodError, match="no blocks"):
        IA3().attach(without)
    assert not any(p.requires_grad for p in [*model.parameters(), *without.parameters()])


def test_merging_changes_weights_and_biases():
    model = base("bert")
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    part = IA3().attach(model)
    move(part, 0.3)
    key = "bert.encoder.layer.0.attention.self.key"
    factors = part.trainable[f"{key}.factors"].detach()
    weight, bias = plain[f"{key}.weight"], plain[f"{key}.bias"]
    expected = weight * factors[:, None] - weight
    torch.testing.assert_close(part.delta(f"{key}.weight").detach(), expected)
    torch.testing.assert_close(part.delta(f"{key}.bias").detach(), bias * factors - bias)
    mlp = "bert.encoder.layer.0.output.dense"
    assert f"{mlp}.bias" not in part.deltas
