"""Bottleneck adapters: their places, counts and settings. The oracle of outputs and gradients is in
`tests/adapters/test_hub_folder.py`; the tensor code has its own tests in `tests/nn`."""

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from lightune.adapters.merge import merged_state
from lightune.engine.plan import Plan
from lightune.engine.prepare import prepare
from lightune.errors import AdapterError, ConfigErrors, MethodError
from lightune.methods.bottleneck import BottleneckAdapter
from lightune.methods.lora import LoRA
from lightune.models.tiny_kinds import KINDS
from lightune.settings import parse

SETTINGS = [
    {"placement": "pfeiffer"},
    {"placement": "parallel", "scale": 4.0, "activation": "silu"},
    {"placement": "parallel", "parallel_input": "residual", "scale": "channel"},
    {"cross_attention": True, "scale": "learned", "width": 3, "activation": "tanh"},
]
ROWS = [[5, 9, 13, 21, 7, 3], [8, 6, 30]]


def trained_weights(model: nn.Module) -> int:
    """2 * width * inner + width + inner for two adapters a block, and for a pooler."""
    config = model.config
    blocks = config.num_hidden_layers
    if config.is_encoder_decoder:
        blocks = getattr(config, "encoder_layers", config.num_hidden_layers)
        blocks += getattr(config, "decoder_layers", None) or config.num_decoder_layers
    if config.model_type == "albert":
        blocks = 1  # used twice
    has_pooler = config.model_type in ("bert", "albert")
    width, inner = config.hidden_size, config.hidden_size // 16
    return (2 * blocks + has_pooler) * (2 * width * inner + width + inner)


def randomise(part, strength=0.2) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in part.trainable.values():
            parameter.add_(strength * torch.randn_like(parameter))


def logits(model, kind):
    return model(**kind.inputs(model, ROWS)).logits


@pytest.mark.parametrize(
    ("settings", "places"),
    [
        ({}, ["attention.output.dense", "output.dense"]),
        ({"placement": "pfeiffer"}, ["output.LayerNorm"]),
        ({"placement": "parallel"}, ["output.dense"]),
    ],
)
def test_where_the_adapters_of_bert_are(settings, places):
    model = KINDS["bert"].build()
    part = BottleneckAdapter(**settings, pooler=False).attach(model)
    found = {path.rpartition(".bottleneck.")[0] for path in part.trainable}
    assert found == {f"bert.encoder.layer.{i}.{place}" for i in range(2) for place in places}


def test_a_pooler_gets_one_only_where_it_is_frozen_and_inside_the_base():
    for kind, has in (("bert", True), ("roberta", False), ("gpt2", False)):
        part = BottleneckAdapter().attach(KINDS[kind].build())
        assert any("pooler" in path for path in part.trainable) == has


@pytest.mark.parametrize(
    ("settings", "inner"),
    [({}, 2), ({"reduction": 8}, 4), ({"reduction": 1e6}, 1), ({"width": 5}, 5)],
)
def test_the_width_is_given_or_divided_and_never_below_one(settings, inner):
    model = KINDS["bert"].build()
    part = BottleneckAdapter(**settings).attach(model)
    downs = {tuple(p.shape) for path, p in part.trainable.items() if path.endswith(".down")}
    assert downs == {(inner, 32)}


def test_cross_attention_gets_an_adapter_when_asked():
    counts = {}
    for asked in (False, True):
        part = BottleneckAdapter(cross_attention=asked).attach(KINDS["bart"].build())
        counts[asked] = sum(path.endswith(".down") for path in part.trainable)
    assert counts == {False: 8, True: 10}


@pytest.mark.parametrize("kind", ["bert", "gpt2", "llama", "t5"])
def test_a_parallel_adapter_reads_the_mlp_s_input_or_the_residual_s(kind):
    """They are the same thing but for a norm that comes before the MLP."""
    tiny = KINDS[kind]
    found = {}
    for source in ("mlp", "residual"):
        model = tiny.build()
        torch.manual_seed(0)
        part = BottleneckAdapter(placement="parallel", parallel_input=source).attach(model)
        randomise(part)
        found[source] = logits(model, tiny)
    assert torch.equal(found["mlp"], found["residual"]) == (kind == "bert")


@pytest.mark.parametrize("settings", [{}, *SETTINGS])
@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2-lm", "llama-lm", "bart", "t5"])
def test_checkpointing_gives_the_same_gradients(kind, settings):
    tiny = KINDS[kind]
    found = []
    for checkpointing in (False, True):
        model = tiny.build()
        torch.manual_seed(0)
        part = BottleneckAdapter(**settings).attach(model)
        randomise(part)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            for name in ("dropout", "activation_dropout", "attention_dropout"):
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, 0.0)
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        logits(model, tiny).square().mean().backward()
        found.append({path: p.grad for path, p in part.trainable.items()})
    for path in found[0]:
        torch.testing.assert_close(found[0][path], found[1][path])


@pytest.mark.parametrize("settings", [{}, *SETTINGS])
def test_bfloat16_leaves_the_trained_weights_in_float32(settings):
    tiny = KINDS["bert"]
    model = tiny.build()
    part = BottleneckAdapter(**settings).attach(model)
    randomise(part)
    exact = logits(model, tiny)
    prepare(model, Plan(dtype="bfloat16"), ("classifier",))
    assert all(p.dtype == torch.float32 for p in part.trainable.values())
    low = logits(model, tiny)
    assert (low - exact).abs().max() < 0.05 * exact.abs().max()
    low.float().square().sum().backward()
    assert all(
        p.grad is not None and p.grad.dtype == torch.float32 for p in part.trainable.values()
    )


@pytest.mark.parametrize("settings", [{}, *SETTINGS])
@pytest.mark.parametrize("first", ["bottleneck", "lora"])
@pytest.mark.parametrize("kind", ["bert", "llama", "gpt2"])
def test_with_lora_on_the_same_layers_both_take_effect_in_either_order(kind, first, settings):
    tiny = KINDS[kind]
    model = tiny.build()
    plain = logits(model, tiny)
    both = [BottleneckAdapter(**settings), LoRA(rank=2)]
    parts = [method.attach(model) for method in (both if first == "bottleneck" else both[::-1])]
    assert torch.equal(logits(model, tiny), plain)
    for part in parts:
        randomise(part)
    changed = logits(model, tiny)
    changed.square().sum().backward()
    assert all(p.grad is not None for part in parts for p in part.trainable.values())
    for part in reversed(parts):
        part.detach()
    assert torch.equal(logits(model, tiny), plain)
    assert not any(isinstance(m, nn.Module) and hasattr(m, "own_backward") for m in model.modules())
    assert any(isinstance(m, (nn.Linear, Conv1D)) for m in model.modules())


def test_it_says_that_it_cannot_be_merged():
    model = KINDS["bert"].build()
    part = BottleneckAdapter().attach(model)
    with pytest.raises(AdapterError, match="cannot be merged"):
        merged_state(model, [part])


def test_a_second_one_on_the_blocks_is_refused_and_leaves_the_first():
    model = KINDS["llama"].build()
    part = BottleneckAdapter(placement="pfeiffer").attach(model)
    before = {path: id(p) for path, p in model.named_parameters()}
    with pytest.raises(MethodError, match="already"):
        BottleneckAdapter(placement="pfeiffer").attach(model)
    assert {path: id(p) for path, p in model.named_parameters()} == before
    part.detach()
    assert not any("bottleneck" in path for path, _ in model.named_modules())


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"placement": "hulsby"}, "placement"),
        ({"reduction": 0}, "reduction"),
        ({"width": 0}, "width"),
        ({"activation": "swish2"}, "activation"),
        ({"scale": "lernt"}, "scale"),
        ({"dropout": 1.0}, "dropout"),
        ({"start": "zero"}, "start"),
        ({"rank": 8}, "rank"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_key(settings, key):
    with pytest.raises(ConfigErrors, match=rf"method\.{key}"):
        parse(BottleneckAdapter, settings, "method")
