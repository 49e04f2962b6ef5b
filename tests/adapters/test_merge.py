"""Merging: the plain model's names, changes added in float32, tied weights refused."""

import copy

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from lightune.adapters.merge import merged_state
from lightune.errors import AdapterError
from lightune.methods.beside import train_new_modules
from lightune.methods.lora import LoRA
from lightune.models.tiny import FAMILIES
from lightune.types import HeadSpec

HEAD = HeadSpec("sequence_classification", ("no", "yes"))
IDS = torch.tensor([[5, 9, 13, 21, 7, 3]])


def causal(tied: bool) -> nn.Module:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=50, num_hidden_layers=1, tie_word_embeddings=tied, **sizes)
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def test_the_model_is_untouched_and_the_changed_weights_are_new():
    model = FAMILIES["gpt2"](HEAD, 0)[0]
    plain = copy.deepcopy(model)
    beside = train_new_modules(model, ())
    parts = [LoRA().attach(model), beside]
    with torch.no_grad():
        for weight in parts[0].trainable.values():
            weight.normal_()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    merged = merged_state(model, parts)
    assert merged.keys() == plain.state_dict().keys()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    original = plain.state_dict()
    changed = {name for name in merged if not torch.equal(merged[name], original[name])}
    assert changed == parts[0].deltas.keys()
    name = next(iter(changed))
    assert torch.equal(merged[name], original[name] + parts[0].delta(name))


def test_two_methods_on_one_layer_add_up():
    model = FAMILIES["bert"](HEAD, 0)[0]
    first = LoRA(targets=["query"]).attach(model)
    with torch.no_grad():
        for weight in first.trainable.values():
            weight.normal_()
    once = merged_state(model, [first])
    name = next(iter(first.deltas))
    assert torch.equal(once[name], model.get_parameter(_inner(name)) + first.delta(name))
    assert not any(".base." in name for name in once)


def _inner(name: str) -> str:
    return name.removesuffix("weight") + "base.weight"


def test_the_sum_is_formed_in_float32_for_a_base_in_bfloat16():
    model = FAMILIES["bert"](HEAD, 0)[0].to(torch.bfloat16)
    part = LoRA(targets=["query"]).attach(model)
    with torch.no_grad():
        for weight in part.trainable.values():
            weight.normal_(std=1e-4)
    name = next(iter(part.deltas))
    merged = merged_state(model, [part])[name]
    assert merged.dtype == torch.float32
    base = model.get_parameter(_inner(name)).float()
    assert torch.equal(merged, base + part.delta(name))


def test_a_tied_output_layer_cannot_be_merged():
    """PEFT merges it with a general warning, and the embedding changes too."""
    model = causal(tied=True)
    part = LoRA(targets=["lm_head"]).attach(model)
    nn.init.normal_(part.trainable["lm_head.B"])
    with pytest.raises(AdapterError, match="tied") as error:
        merged_state(model, [part])
    assert "model.embed_tokens.weight" in error.value.found


def test_an_output_layer_of_its_own_is_merged():
    model = causal(tied=False)
    plain = copy.deepcopy(model)
    part = LoRA(targets=["lm_head"]).attach(model)
    nn.init.normal_(part.trainable["lm_head.B"])
    plain.load_state_dict(merged_state(model, [part]))
    torch.testing.assert_close(plain(IDS).logits, model(IDS).logits, rtol=0, atol=1e-4)
