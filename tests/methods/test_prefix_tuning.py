"""Prefix tuning against its formula and PEFT; every kernel, caches, checkpointing."""

import copy

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import HeadId, Manifest, describe_method
from lightune.adapters.save import save_adapter
from lightune.engine.plan import Plan
from lightune.engine.prepare import prepare
from lightune.errors import MethodError, ModelError
from lightune.methods.beside import train_new_modules
from lightune.methods.prefix_tuning import PrefixTuning
from lightune.models.tiny import ENCODER_DECODERS, FAMILIES, build
from lightune.models.tiny_kinds import KINDS
from lightune.types import HeadSpec
from tests.methods.prompted import (
    IDS,
    assert_cached_generation_is_uncached,
    assert_gradients_are_those_of_peft,
)

HEAD = HeadSpec("sequence_classification", ("no", "yes"))
MASK = torch.tensor([[1] * 6, [1, 1, 1, 1, 0, 0]])
TOKENS = 3
TAKEN = [family for family in FAMILIES if family != "deberta"]
PEFT_FAMILIES = ["bert", "roberta", "electra", "gpt2", "llama", "qwen2", "qwen3", "gemma",
                 "mistral", "phi3", "gpt_neox"]  # fmt: skip
HEADS = {"bert": "classifier", "roberta": "classifier"}


def attached(family: str, **settings):
    """A tiny model with a prefix of random numbers, large enough to matter."""
    model = FAMILIES[family](HEAD, 0)[0]
    torch.manual_seed(3)
    part = PrefixTuning(tokens=TOKENS, start="random", **settings).attach(model)
    return model, part


def logits(model: nn.Module, mask: torch.Tensor = MASK) -> torch.Tensor:
    return model(input_ids=IDS, attention_mask=mask).logits


def test_one_layer_of_bert_computes_equation_2():
    model, part = attached("bert")
    (prefix,) = part.trainable.values()
    inner = model.bert.encoder.layer[0].attention.self
    x = torch.randn(1, 6, 32)
    q, k, v = (
        layer(x).view(1, 6, 4, 8).transpose(1, 2) for layer in (inner.query, inner.key, inner.value)
    )
    keys, values = (
        part.view(TOKENS, 4, 8).transpose(0, 1)[None] for part in prefix[:, :64].split(32, dim=1)
    )
    k, v = torch.cat([keys, k], dim=2), torch.cat([values, v], dim=2)
    expected = torch.softmax(q @ k.transpose(2, 3) / 8**0.5, dim=-1) @ v
    torch.testing.assert_close(inner(x)[0], expected.transpose(1, 2).reshape(1, 6, 32))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("family", PEFT_FAMILIES)
@pytest.mark.parametrize("encoder", ["none", "mlp"])
def test_output_and_gradients_match_peft(family, encoder):
    """Under PEFT's own convention: the text's positions move up by the prefix."""
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    plain = FAMILIES[family](HEAD, 0)[0]
    plain.config.use_cache = True  # PEFT hands the prefix over as a cache
    model, part = attached(family, positions="shifted", encoder=encoder, hidden=8)
    assert part.layout == "peft"
    config = peft.PrefixTuningConfig(
        task_type="SEQ_CLS", num_virtual_tokens=TOKENS, encoder_hidden_size=8,
        prefix_projection=encoder == "mlp",
    )  # fmt: skip
    oracle = peft.get_peft_model(copy.deepcopy(plain), config).eval()
    theirs = oracle.prompt_encoder["default"]
    names = {"weight": "embedding.weight", "inner": "transform.0", "outer": "transform.2"}
    pairs = []
    for path, mine in part.trainable.items():
        first, dot, rest = path.partition(".prefix.")[2].partition(".")
        other = theirs.get_parameter(names[first] + dot + rest)
        other.data = mine.detach().clone()
        pairs.append((mine, other))
    assert len(pairs) == len(list(theirs.parameters()))
    outputs = [logits(m, torch.ones_like(IDS)) for m in (model, oracle)]
    assert_gradients_are_those_of_peft(outputs, pairs)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("encoder", ["none", "mlp"])
@pytest.mark.parametrize(
    ("family", "positions"), [("bert", "shifted"), ("llama", "shifted"), ("bert", "kept")]
)
def test_saved_loaded_and_read_by_peft_where_it_computes_the_same(
    family, positions, encoder, tmp_path
):
    plain = FAMILIES[family](HEAD, 0)[0]
    model = copy.deepcopy(plain)
    method = PrefixTuning(tokens=TOKENS, positions=positions, encoder=encoder, hidden=8)
    beside = train_new_modules(model, [HEADS.get(family, "score")])
    parts = [method.attach(model), beside]
    manifest = Manifest(
        method=describe_method(method), head=HeadId(kind="sequence_classification", labels=("a",))
    )
    save_adapter(tmp_path / "a", model, parts, manifest)
    again = copy.deepcopy(plain)
    load_adapter(tmp_path / "a", again, None)
    torch.testing.assert_close(logits(again), logits(model), rtol=1e-6, atol=1e-6)
    assert (parts[0].layout == "peft") == (positions == "shifted")
    if positions == "shifted":
        peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
        plain.config.use_cache = True
        theirs = peft.PeftModel.from_pretrained(plain, str(tmp_path / "a")).eval()
        full = torch.ones_like(IDS)
        torch.testing.assert_close(logits(theirs, full), logits(model, full), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", [*TAKEN, *ENCODER_DECODERS])
def test_every_kernel_of_a_plan_gives_the_same_and_keeps_the_prefix(family):
    outputs = []
    for kernel in ("off", "sdpa", "lightune"):
        model = {**FAMILIES, **ENCODER_DECODERS}[family](HEAD, 0)[0]
        ids = IDS.clone()
        if family in ENCODER_DECODERS:
            ids[0, 5] = ids[1, 3] = model.config.eos_token_id
        before = model(input_ids=ids, attention_mask=MASK).logits
        torch.manual_seed(3)
        PrefixTuning(tokens=TOKENS, start="random").attach(model)
        prepared = prepare(model, Plan(attention=kernel))
        assert prepared.plan.attention == kernel, prepared.notes
        outputs.append(model(input_ids=ids, attention_mask=MASK).logits)
        assert not torch.allclose(outputs[-1], before, rtol=1e-4, atol=1e-7)
    for other in outputs[1:]:
        torch.testing.assert_close(outputs[0], other, rtol=1e-4, atol=1e-6)


def test_a_model_with_eager_attention_of_its_own_keeps_its_result():
    model, part = attached("bert")
    expected = logits(model)
    part.detach()
    model.set_attn_implementation("eager")
    torch.manual_seed(3)
    part = PrefixTuning(tokens=TOKENS, start="random").attach(model)
    torch.testing.assert_close(logits(model), expected)
    part.detach()
    assert model.config._attn_implementation == "eager"


def test_a_prefix_that_is_lost_is_an_error():
    model, _ = attached("bert")
    model.set_attn_implementation("sdpa")
    with pytest.raises(ModelError, match="without its prefix"):
        logits(model)


def test_deberta_is_refused_with_the_reason_and_left_as_it_was():
    model = FAMILIES["deberta"](HEAD, 0)[0]
    with pytest.raises(MethodError, match="computes its attention itself"):
        PrefixTuning().attach(model)
    assert not any("lightune_prefix" in vars(module) for module in model.modules())


@pytest.mark.parametrize("positions", ["kept", "shifted"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("left", [False, True])
def test_cached_generation_equals_uncached(family, positions, left):
    config = FAMILIES[family](HEAD, 0)[0].config
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    PrefixTuning(tokens=TOKENS, start="random", positions=positions).attach(model)
    assert_cached_generation_is_uncached(model, left)


@pytest.mark.parametrize("encoder", ["none", "mlp"])
@pytest.mark.parametrize("family", ["bert", "llama", "t5"])
def test_gradient_checkpointing_gives_the_same_gradients(family, encoder):
    gradients = []
    for checkpointed in (False, True):
        model = {**FAMILIES, **ENCODER_DECODERS}[family](HEAD, 0)[0]
        model.config.use_cache = False
        ids = IDS.clone()
        if family == "t5":
            ids[:, 5] = model.config.eos_token_id
        torch.manual_seed(3)
        part = PrefixTuning(tokens=TOKENS, encoder=encoder, hidden=8).attach(model)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        if checkpointed:
            model.activation_checkpointing_enable()
        model.train()
        model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits.sum().backward()
        gradients.append([p.grad for p in part.trainable.values()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_images_have_attention_too():
    model = KINDS["vit"].build(seed=0)
    pixels = torch.randn(2, 3, 16, 16)
    before = model(pixel_values=pixels).logits
    part = PrefixTuning(tokens=12).attach(model)
    assert part.layout == "tensors"
    assert not torch.allclose(model(pixel_values=pixels).logits, before, atol=1e-6)
    part.detach()
    assert torch.equal(model(pixel_values=pixels).logits, before)


def test_start_from_words_is_what_the_base_computes():
    """With the words' own keys and values as prefix, and no positions moved, a text sees them as
    if they stood before it: a decoder's later tokens come out as in one text."""
    model, _ = build("gpt2", HEAD)
    torch.manual_seed(5)
    part = PrefixTuning(tokens=8, positions="shifted").attach(model)
    (prefix,) = part.trainable.values()
    torch.manual_seed(5)
    from lightune.nn.prompts import random_words

    part.detach()
    words = random_words(model, model.get_input_embeddings(), 8)
    joined = torch.cat([words.expand(2, -1), IDS], dim=1)
    expected = model(input_ids=joined).logits
    part = PrefixTuning(tokens=8, positions="shifted", start="random").attach(model)
    next(iter(part.trainable.values())).data = prefix.detach()
    torch.testing.assert_close(logits(model, torch.ones_like(IDS)), expected)


def test_albert_shares_one_prefix_between_its_layers():
    model, part = attached("albert")
    (prefix,) = part.trainable.values()
    assert prefix.shape == (TOKENS, 2 * 32)
    logits(model).sum().backward()
    assert prefix.grad.abs().max() > 0
