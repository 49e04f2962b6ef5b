"""Prompt tuning against its formula and against PEFT; where the prompt stands, what starts it."""

import copy

import pytest
import torch
from torch import nn

from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import HeadId, Manifest, describe_method
from lightune.adapters.save import save_adapter
from lightune.errors import ConfigErrors, MethodError, ModelError
from lightune.methods.beside import train_new_modules
from lightune.methods.prompt_tuning import PromptTuning
from lightune.models.tiny import ENCODER_DECODERS, FAMILIES, build, tiny_tokenizer
from lightune.settings import parse
from lightune.types import HeadSpec
from tests.methods.prompted import (
    IDS,
    assert_cached_generation_is_uncached,
    assert_gradients_are_those_of_peft,
)

HEAD = HeadSpec("sequence_classification", ("no", "yes"))
TOKENS = 3

PEFT_FAMILIES = [f for f in FAMILIES if f not in ("albert", "electra")]
"""PEFT takes the hidden width for the embedding's, which differ in ALBERT and ELECTRA."""


def is_causal(model: nn.Module) -> bool:
    return any(getattr(m, "is_causal", False) is True for m in model.modules())


def attached(family: str, **settings) -> tuple[nn.Module, nn.Parameter]:
    """A tiny model with a prompt of random numbers."""
    model = FAMILIES[family](HEAD, 0)[0]
    torch.manual_seed(3)
    part = PromptTuning(tokens=TOKENS, **settings).attach(model)
    (prompt,) = part.trainable.values()
    return model, prompt


def test_bert_computes_the_formula():
    """[CLS; P; rest] as inputs_embeds of the plain model is what comes out, token by token."""
    plain = FAMILIES["bert"](HEAD, 0)[0]
    model, prompt = attached("bert")
    words = plain.get_input_embeddings()(IDS)
    joined = torch.cat([words[:, :1], prompt.expand(2, -1, -1), words[:, 1:]], dim=1)
    theirs = plain.bert(inputs_embeds=joined)
    ours = model.bert(input_ids=IDS)
    torch.testing.assert_close(ours.pooler_output, theirs.pooler_output)
    hidden = theirs.last_hidden_state
    torch.testing.assert_close(
        ours.last_hidden_state, torch.cat([hidden[:, :1], hidden[:, 1 + TOKENS :]], dim=1)
    )


def test_kept_positions_are_those_of_the_text_alone():
    plain = FAMILIES["roberta"](HEAD, 0)[0]
    model, prompt = attached("roberta", positions="kept")
    words = plain.get_input_embeddings()(IDS)
    joined = torch.cat([words[:, :1], prompt.expand(2, -1, -1), words[:, 1:]], dim=1)
    first = plain.config.pad_token_id + 1
    places = torch.tensor([[0, *[0] * TOKENS, 1, 2, 3, 4, 5]]) + first
    theirs = plain.roberta(inputs_embeds=joined, position_ids=places).last_hidden_state
    torch.testing.assert_close(model.roberta(input_ids=IDS).last_hidden_state[:, 1:], theirs[:, 4:])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("family", PEFT_FAMILIES)
def test_output_loss_and_gradient_match_peft(family, tmp_path):
    """Under PEFT's own convention: the prompt first, positions shifted, the first place read."""
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    plain = FAMILIES[family](HEAD, 0)[0]
    reads = "text" if is_causal(plain) else "prompt"
    model, prompt = attached(family, reads=reads)
    config = peft.PromptTuningConfig(
        task_type="SEQ_CLS", num_virtual_tokens=TOKENS, token_dim=32, num_attention_heads=4,
        num_layers=2,
    )  # fmt: skip
    oracle = peft.get_peft_model(copy.deepcopy(plain), config).eval()
    other = oracle.prompt_encoder["default"].embedding.weight
    other.data = prompt.detach().clone()
    # PEFT finds no last token without ids: rows of full length, which is where both read
    mask = torch.ones_like(IDS)
    mine = model(input_ids=IDS, attention_mask=mask).logits
    theirs = oracle(input_ids=IDS, attention_mask=mask).logits
    assert_gradients_are_those_of_peft([mine, theirs], [(prompt, other)])


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("family", ["roberta", "llama"])
def test_peft_loads_what_is_saved(family, tmp_path):
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    plain = FAMILIES[family](HEAD, 0)[0]
    model = copy.deepcopy(plain)
    method = PromptTuning(tokens=TOKENS, reads="text" if is_causal(plain) else "prompt")
    head = "score" if is_causal(plain) else "classifier"
    beside = train_new_modules(model, [head])
    parts = [method.attach(model), beside]
    assert parts[0].layout == "peft"
    with torch.no_grad():
        for parameter in (p for part in parts for p in part.trainable.values()):
            parameter.add_(0.2 * torch.randn_like(parameter))
    manifest = Manifest(
        method=describe_method(method), head=HeadId(kind="sequence_classification", labels=("a",))
    )
    save_adapter(tmp_path / "a", model, parts, manifest)
    theirs = peft.PeftModel.from_pretrained(plain, str(tmp_path / "a")).eval()
    mask = torch.ones_like(IDS)
    torch.testing.assert_close(
        theirs(input_ids=IDS, attention_mask=mask).logits,
        model(input_ids=IDS, attention_mask=mask).logits,
    )


def test_peft_gets_no_folder_where_it_would_compute_something_else():
    for settings in ({}, {"positions": "kept", "reads": "prompt"}):
        model = FAMILIES["bert"](HEAD, 0)[0]
        assert PromptTuning(**settings).attach(model).layout == "tensors"


def test_saved_and_loaded_whatever_it_started_from(tmp_path):
    model, _ = build("bert", HEAD)
    method = PromptTuning(tokens=4, start="labels").with_tokenizer(tiny_tokenizer("cls"))
    parts = [method.attach(model), train_new_modules(model, ["classifier"])]
    save_adapter(tmp_path / "a", model, parts, Manifest(method=describe_method(method)))
    again, _ = build("bert", HEAD)
    load_adapter(tmp_path / "a", again, None)
    assert torch.equal(again(input_ids=IDS).logits, model(input_ids=IDS).logits)


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_starts(family):
    model, tokenizer = build(family, HEAD)
    words = model.get_input_embeddings()

    def start(**settings):
        part = PromptTuning(tokens=5, **settings).with_tokenizer(tokenizer).attach(model)
        (prompt,) = part.trainable.values()
        part.detach()
        return prompt.detach()

    known = {tuple(row.tolist()) for row in words.weight}
    assert all(tuple(row.tolist()) in known for row in start())
    ids = tokenizer("a good film", add_special_tokens=False)["input_ids"]
    assert torch.equal(start(start="text", text="a good film"), words(torch.tensor(ids * 5)[:5]))
    labels = start(start="labels")
    for row, label in zip(labels, ("no", "yes"), strict=False):
        ids = tokenizer(label, add_special_tokens=False)["input_ids"]
        torch.testing.assert_close(row, words(torch.tensor(ids)).mean(0))
    uniform = start(start="random")
    assert uniform.abs().max() <= 0.5
    assert uniform.std() > 0.2


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("positions", ["shifted", "kept"])
@pytest.mark.parametrize("left", [False, True])
def test_cached_generation_equals_uncached(family, positions, left):
    from transformers import AutoModelForCausalLM

    config = FAMILIES[family](HEAD, 0)[0].config
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    part = PromptTuning(tokens=TOKENS, positions=positions).attach(model)
    with torch.no_grad():
        next(iter(part.trainable.values())).normal_()
    assert_cached_generation_is_uncached(model, left)
    logits = model(input_ids=IDS, labels=IDS)
    assert logits.logits.shape[:2] == IDS.shape, "the prompt's own places come out again"


def test_t5_decoder_sees_the_prompt_in_cached_generation():
    from transformers import AutoModelForSeq2SeqLM

    config = ENCODER_DECODERS["t5"](HEAD, 0)[0].config
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config).eval().requires_grad_(False)
    part = PromptTuning(tokens=TOKENS).attach(model)
    with torch.no_grad():
        next(iter(part.trainable.values())).normal_()
    mask = torch.ones_like(IDS)
    mask[1, 4:] = 0
    arguments = {"attention_mask": mask, "do_sample": False, "max_new_tokens": 6}
    fast = model.generate(IDS, use_cache=True, **arguments)
    assert torch.equal(fast, model.generate(IDS, use_cache=False, **arguments))
    states = model.get_encoder()(input_ids=IDS, attention_mask=mask).last_hidden_state
    assert states.shape[1] == IDS.shape[1] + TOKENS
    one = model(input_ids=IDS, attention_mask=mask, decoder_input_ids=IDS).logits
    plain = model(
        encoder_outputs=(states,), attention_mask=mask, decoder_input_ids=IDS, use_cache=False
    ).logits
    torch.testing.assert_close(one, plain)


def test_room_is_taken_only_from_positions_that_run_out():
    bert, t5 = FAMILIES["bert"](HEAD, 0)[0], ENCODER_DECODERS["t5"](HEAD, 0)[0]
    assert PromptTuning(tokens=7).room(bert) == 7
    assert PromptTuning(tokens=7, positions="kept").room(bert) == 0
    assert PromptTuning(tokens=7).room(t5) == 0


@pytest.mark.parametrize(
    ("family", "settings", "word"),
    [
        ("gpt2", {"reads": "prompt"}, "first place"),
        ("t5", {"positions": "kept"}, "position_ids"),
        ("bert", {"start": "text", "text": "good"}, "tokenizer"),
    ],
)
def test_what_cannot_be_is_refused_at_attach(family, settings, word):
    model = {**FAMILIES, **ENCODER_DECODERS}[family](HEAD, 0)[0]
    hooks = sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())
    with pytest.raises(MethodError, match=word):
        PromptTuning(**settings).attach(model)
    assert hooks == sum(len(m._forward_pre_hooks) + len(m._forward_hooks) for m in model.modules())


def test_embeddings_instead_of_words_are_refused_where_a_prompt_would_be_lost():
    model, _ = attached("bert")
    with pytest.raises(ModelError, match="input_ids"):
        model(inputs_embeds=model.get_input_embeddings()(IDS))


@pytest.mark.parametrize("settings", [{"tokens": 0}, {"start": "text"}, {"text": "good"}])
def test_wrong_settings_are_refused(settings):
    with pytest.raises(ConfigErrors):
        parse(PromptTuning, settings, "method")
