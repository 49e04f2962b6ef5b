"""Which blocks are found frozen, and which models are refused because stand-ins would not do."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from lightune.engine.batches import collate
from lightune.engine.prefix import find_prefix
from lightune.methods.base import methods, train_copies
from lightune.methods.beside import train_new_modules
from lightune.models.tiny import ENCODER_DECODERS, FAMILIES
from lightune.types import Example, HeadSpec

HEAD = HeadSpec("sequence_classification", ("a", "b", "c"))
LONG, SHORT = [5, 9, 13, 21, 7, 3, 40, 41, 42, 11], [8, 6, 3]


def batches_for(tokenizer, rows=(LONG, SHORT)):
    examples = [Example(i, {"input_ids": ids}, i) for i, ids in enumerate(rows)]
    make = partial(
        collate,
        pad_id=tokenizer.pad_token_id,
        targets=lambda e, w: torch.tensor([x.target for x in e]),
    )
    return [make(examples), *(make([example]) for example in examples)]


def loss_of(model):
    return lambda batch: nn.functional.cross_entropy(model(**batch.inputs).logits, batch.targets)


def found(model, tokenizer, rows=(LONG, SHORT)):
    return find_prefix(model, loss_of(model), lambda: batches_for(tokenizer, rows))


def attached(family: str, method: str, **settings):
    model, tokenizer = (FAMILIES | ENCODER_DECODERS)[family](HEAD, 0)
    train_new_modules(model, [])
    methods()[method](**settings).attach(model)
    return model, tokenizer


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "albert"])
def test_the_block_below_the_trained_one_is_found(family):
    prefix = found(*attached(family, "lora", layers=[1]))
    assert [path.rpartition(".")[2] for path in prefix.blocks] == ["0"]
    assert prefix.refusal == ""


@pytest.mark.parametrize(
    ("method", "settings", "blocks"),
    [
        ("lora", {}, 0),
        ("lora", {"layers": [0]}, 0),
        ("lora", {"targets": ["pooler.dense"]}, 2),
        ("full", {}, 0),
        ("head", {}, 2),
        ("last_layers", {"layers": 1}, 1),
        ("last_layers", {"layers": 2}, 0),
        ("prompt_tuning", {}, 0),
    ],
)
def test_blocks_found_for_a_method(method, settings, blocks):
    prefix = found(*attached("bert", method, **settings))
    assert len(prefix.blocks) == blocks


@pytest.mark.parametrize(
    "path",
    ["bert.embeddings.word_embeddings.weight", "bert.embeddings.LayerNorm.bias"],
)
def test_nothing_is_frozen_above_a_trained_embedding(path):
    model, tokenizer = FAMILIES["bert"](HEAD, 0)
    train_copies(model, [path, "bert.encoder.layer.1.output.dense.bias"], "tensors")
    assert found(model, tokenizer).blocks == ()


def test_the_probe_leaves_modes_and_random_state_as_they_were():
    model, tokenizer = attached("bert", "lora", layers=[1])
    model.bert.encoder.layer[1].train()
    modes = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    hooks = [len(module._forward_hooks) for module in model.modules()]
    found(model, tokenizer)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert [len(module._forward_hooks) for module in model.modules()] == hooks


def test_in_front_there_is_no_dropout_and_behind_there_is():
    model, tokenizer = attached("bert", "lora", layers=[1])
    prefix = found(model, tokenizer)
    prefix.set_mode(model)
    in_train_mode = {
        n for n, m in model.named_modules() if isinstance(m, nn.Dropout) and m.training
    }
    assert in_train_mode == {
        "bert.encoder.layer.1.attention.self.dropout",
        "bert.encoder.layer.1.attention.output.dropout",
        "bert.encoder.layer.1.output.dropout",
        "dropout",
    }


def test_with_nothing_frozen_all_of_the_model_is_in_train_mode():
    model, tokenizer = attached("bert", "lora")
    found(model, tokenizer).set_mode(model)
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_an_encoder_decoder_is_refused(family):
    end = 1  # of the tiny tokenizer: these classifiers read the last end token
    rows = ([5, 9, 13, 21, end], [8, 6, end])
    prefix = found(*attached(family, "lora", layers=[1]), rows)
    assert "decoder" in prefix.refusal
    assert (prefix.blocks, prefix.front) == ((), ())


def test_blocks_that_share_their_weights_are_refused():
    assert "several times" in found(*attached("albert", "head")).refusal


def test_what_depends_on_the_padding_is_refused():
    model, tokenizer = attached("bert", "lora", layers=[1])
    block = model.bert.encoder.layer[0]
    block.register_forward_pre_hook(lambda m, args: (args[0] * args[0].shape[1], *args[1:]))
    assert "padding" in found(model, tokenizer).refusal


def test_what_is_random_is_refused():
    """Dropout that is no module of its own, in what holds the blocks, goes on in train mode."""
    model, tokenizer = attached("bert", "lora", layers=[1])

    def drop(module, args):
        return (nn.functional.dropout(args[0], training=model.bert.encoder.training), *args[1:])

    model.bert.encoder.layer[0].register_forward_pre_hook(drop)
    assert "random" in found(model, tokenizer).refusal


class Blocks(nn.Module):
    """Three blocks, of which the last is trained; with `mix` the output of each is added up."""

    config = SimpleNamespace(is_encoder_decoder=False)

    def __init__(self, mix: bool = False, kind: type | None = None) -> None:
        super().__init__()
        self.mix = mix
        self.words = nn.Embedding(50, 4)
        self.layers = nn.ModuleList((kind or Block)() for _ in range(3))
        self.requires_grad_(False)
        self.layers[2].weight.requires_grad_()

    def forward(self, input_ids, attention_mask):
        hidden, total = self.words(input_ids), 0.0
        for layer in self.layers:
            hidden = layer(hidden)
            total = total + hidden if self.mix else hidden
        return SimpleNamespace(logits=(total * attention_mask.unsqueeze(-1)).sum(1))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))

    def forward(self, hidden):
        return hidden.cos() * self.weight


TOKENIZER = SimpleNamespace(pad_token_id=0)


@pytest.mark.parametrize("mix", [False, True])
def test_a_model_that_reads_every_block_is_refused(mix):
    prefix = found(Blocks(mix), TOKENIZER)
    assert prefix.blocks == ("layers.0", "layers.1")
    assert prefix.refusal.startswith("the loss with stand-ins is") == mix


class Pair(Block):
    """As T5's: what the next block needs comes beside the hidden states."""

    def forward(self, given):
        hidden, bias = given if isinstance(given, tuple) else (given, given.sin())
        return super().forward(hidden + bias), bias


class Pairs(Blocks):
    def forward(self, input_ids, attention_mask):
        given = self.words(input_ids)
        for layer in self.layers:
            given = layer(given)
        return SimpleNamespace(logits=(given[0] * attention_mask.unsqueeze(-1)).sum(1))


def test_blocks_that_return_more_than_hidden_states_are_refused():
    assert "more than hidden states" in found(Pairs(kind=Pair), TOKENIZER).refusal


def test_stand_ins_answer_as_their_blocks_and_leave():
    model, tokenizer = attached("modernbert", "lora", layers=[1])
    prefix = found(model, tokenizer)
    block, names = model.model.layers[0], set(model.state_dict())
    hidden = torch.zeros(2, 16, 32)
    with prefix.replaced_by(hidden):
        assert model.model.layers[0].attention_type == block.attention_type
        assert model.model.layers[0](1, 2) is hidden
    assert model.model.layers[0] is block
    with pytest.raises(IndexError), prefix.replaced_by(hidden):
        model(input_ids=torch.tensor([[4000]]))
    assert model.model.layers[0] is block
    assert set(model.state_dict()) == names
