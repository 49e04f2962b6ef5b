"""The roles of every family's parts, and where norms are against the order in which they run."""

import pytest
import torch
import transformers
from torch import nn

from lightune.errors import MethodError
from lightune.models.tiny_kinds import KINDS
from lightune.nn.bottleneck import Bottleneck, BottleneckLinear, BottleneckNorm
from lightune.nn.lowrank import LowRankLinear
from lightune.nn.roles import find_roles
from lightune.nn.surgery import linears

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 400}
HEADS = {"num_attention_heads": 4}
BART = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 400}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
BART |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
OPT = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "vocab_size": 400}
OPT |= {"word_embed_proj_dim": 32}
MORE = {
    "mbart": ("MBartConfig", BART),
    "opt, norms before": ("OPTConfig", OPT | HEADS),
    "opt, norms behind": ("OPTConfig", OPT | HEADS | {"do_layer_norm_before": False}),
    "gemma2": ("Gemma2Config", SIZES | HEADS | {"num_key_value_heads": 2, "head_dim": 8}),
    "olmo2": ("Olmo2Config", SIZES | HEADS),
    "phi": ("PhiConfig", SIZES | HEADS),
    "roberta-prelayernorm": ("RobertaPreLayerNormConfig", SIZES | HEADS),
    "mpnet": ("MPNetConfig", SIZES | HEADS),
    "t5, gated": (
        "T5Config",
        {
            "d_model": 32,
            "d_ff": 64,
            "d_kv": 8,
            "num_layers": 2,
            "num_heads": 4,
            "vocab_size": 400,
            "feed_forward_proj": "gated-gelu",
        },
    ),
}
"""Families beside those of the tiny models, which differ in where their norms are."""

# family: blocks, fused attention, inputs of the MLP, gate and up fused, where the norms are
TABLE = {
    "bert": (2, False, 1, False, "post"),
    "distilbert": (2, False, 1, False, "post"),
    "roberta": (2, False, 1, False, "post"),
    "electra": (2, False, 1, False, "post"),
    "albert": (1, False, 1, False, "post"),
    "deberta": (2, False, 1, False, "post"),
    "modernbert": (2, True, 1, True, "pre"),
    "gpt2": (2, True, 1, False, "pre"),
    "llama": (2, False, 2, False, "pre"),
    "qwen2": (2, False, 2, False, "pre"),
    "qwen3": (2, False, 2, False, "pre"),
    "gemma": (2, False, 2, False, "pre"),
    "mistral": (2, False, 2, False, "pre"),
    "phi3": (2, True, 1, True, "pre"),
    "gpt_neox": (2, True, 1, False, "pre"),
    "t5": (4, False, 1, False, "pre"),
    "bart": (4, False, 1, False, "post"),
    "marian-seq2seq": (4, False, 1, False, "post"),
    "vit": (2, False, 1, False, "pre"),
    "mbart": (4, False, 1, False, "pre"),
    "opt, norms before": (2, False, 1, False, "pre"),
    "opt, norms behind": (2, False, 1, False, "post"),
    "gemma2": (2, False, 2, False, "both"),
    "olmo2": (2, False, 2, False, "branch"),
    "phi": (2, False, 1, False, "pre"),
    "roberta-prelayernorm": (2, False, 1, False, "pre"),
    "mpnet": (2, False, 1, False, "post"),
    "t5, gated": (4, False, 2, False, "pre"),
}


def build(family: str) -> nn.Module:
    if family in MORE:
        name, settings = MORE[family]
        return transformers.AutoModel.from_config(getattr(transformers, name)(**settings)).eval()
    return KINDS[family].build()


def run(model: nn.Module, family: str) -> None:
    if family not in MORE:
        kind = KINDS[family]
        model(**kind.inputs(model, [[5, 9, 13, 21, 7, 2]]))
        return
    ids = torch.tensor([[5, 9, 13, 21, 7, 2]])
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    model(input_ids=ids, **more)


@pytest.mark.parametrize("family", TABLE)
def test_the_roles_of_every_family(family):
    model = build(family)
    blocks, fused, inputs, gated, placement = TABLE[family]
    roles = find_roles(model)
    assert len(roles.blocks) == blocks
    two_sides = model.config.is_encoder_decoder
    assert {b.side for b in roles.blocks} == ({"encoder", "decoder"} if two_sides else {"only"})
    assert isinstance(model.get_submodule(roles.embedding), nn.Module)
    used: set[str] = set()
    for block in roles.blocks:
        assert block.width == 32
        assert block.placement == placement
        assert (block.cross_attention is not None) == (block.side == "decoder")
        for attention in filter(None, (block.attention, block.cross_attention)):
            assert (attention.fused is not None) == fused
            separate = (attention.query, attention.key, attention.value)
            assert all((path is None) == fused for path in separate)
            assert attention.cross == (attention is block.cross_attention)
            used |= {p for p in (*separate, attention.fused, attention.output) if p}
        assert (len(block.mlp.inputs), block.mlp.fused) == (inputs, gated)
        used |= {*block.mlp.inputs, block.mlp.output}
    inside = {p for p in linears(model) if p.startswith(tuple(f"{b.path}." for b in roles.blocks))}
    # DeBERTa's projections of positions have no role of their own
    assert {p for p in inside - used if "pos_" not in p} == set()


@pytest.mark.parametrize("family", TABLE)
def test_norms_are_where_the_running_model_calls_them(family):
    """The tree says where norms are; here the order in which the parts really run does."""
    model = build(family)
    calls: list[str] = []
    roles = find_roles(model)
    block = roles.blocks[-1]
    watched = {*block.norms, block.attention.output, block.mlp.inputs[0], block.mlp.output}
    for path in watched:
        model.get_submodule(path).register_forward_hook(lambda *_, path=path: calls.append(path))
    run(model, family)
    before = calls.index(block.mlp.inputs[0])
    behind = calls.index(block.mlp.output)
    norm = calls.index(block.mlp.norm)
    if block.placement in ("pre", "both"):
        assert norm < before
    else:
        assert norm == behind + 1
    if block.placement != "both":
        own = calls.index(block.attention.output)
        first = calls.index(block.attention.norm)
        assert (first < own) == (block.placement == "pre")


def test_a_layer_that_a_method_wrapped_keeps_its_role():
    model = build("bert")
    before = find_roles(model)
    block = before.blocks[0]
    wrapped = {
        block.attention.query: LowRankLinear(model.get_submodule(block.attention.query), 2, 1.0),
        block.mlp.output: BottleneckLinear(
            model.get_submodule(block.mlp.output), Bottleneck(32, 2)
        ),
        block.mlp.norm: BottleneckNorm(model.get_submodule(block.mlp.norm), Bottleneck(32, 2)),
    }
    for path, module in wrapped.items():
        model.set_submodule(path, module)
    assert find_roles(model) == before


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("MixtralConfig", SIZES | HEADS | {"num_key_value_heads": 2}),
        ("MambaConfig", {"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 400}),
    ],
)
def test_a_structure_without_these_roles_is_refused(name, settings):
    model = transformers.AutoModel.from_config(getattr(transformers, name)(**settings))
    with pytest.raises(MethodError, match="MLP") as error:
        find_roles(model)
    assert "lora" in error.value.mend


def test_a_block_that_lacks_a_part_is_named():
    model = build("llama")
    model.model.layers[1].mlp.down_proj = nn.Linear(7, 32)
    with pytest.raises(MethodError, match=r"MLP .* was not found in model.layers.1") as error:
        find_roles(model)
    assert "mlp.down_proj" in error.value.found
