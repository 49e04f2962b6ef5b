"""Which blocks `last-2` and block numbers name, and which linear layers are inside them."""

import pytest
from torch import nn

from lightune.errors import ConfigErrors, TargetError
from lightune.methods.lora import LoRA
from lightune.models.tiny import ENCODER_DECODERS, FAMILIES
from lightune.nn.blocks import chosen_blocks, linears_in
from lightune.nn.surgery import find_linears
from lightune.settings import parse
from lightune.types import HeadSpec

HEAD = HeadSpec("sequence_classification", ("no", "yes"))


@pytest.mark.parametrize(
    ("choice", "numbers"),
    [("last-1", [1]), ("last-2", [0, 1]), ([0], [0]), ([1, 0], [0, 1]), ([1, 1], [1])],
)
@pytest.mark.parametrize(
    ("family", "stem"), [("bert", "bert.encoder.layer"), ("gpt2", "transformer.h")]
)
def test_chosen_blocks(family, stem, choice, numbers):
    model = FAMILIES[family](HEAD, 0)[0]
    assert chosen_blocks(model, choice) == [f"{stem}.{n}" for n in numbers]


def test_an_encoder_decoder_counts_in_each_stack():
    model = ENCODER_DECODERS["t5"](HEAD, 0)[0]
    blocks = ["transformer.encoder.block.1", "transformer.decoder.block.1"]
    assert chosen_blocks(model, "last-1") == blocks


@pytest.mark.parametrize("choice", [[2], [0, 5], "last-3"])
def test_a_block_that_does_not_exist_is_said(choice):
    with pytest.raises(TargetError, match="has 2 blocks") as error:
        chosen_blocks(FAMILIES["bert"](HEAD, 0)[0], choice)
    assert "0 to 1" in error.value.mend


def test_a_model_without_blocks_is_said():
    with pytest.raises(TargetError, match="no repeated blocks"):
        chosen_blocks(nn.Sequential(nn.Linear(2, 2)), "last-1")


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_are_those_of_the_blocks_and_no_other(family):
    model = FAMILIES[family](HEAD, 0)[0]
    block = chosen_blocks(model, "last-1")[0]
    every = find_linears(model, "all-linear")
    expected = [path for path in every if path.startswith(f"{block}.")]
    assert list(linears_in(model, "all-linear", "last-1")) == expected
    assert linears_in(model, "all-linear", None) == every


def test_a_target_outside_the_blocks_is_said():
    model = FAMILIES["bert"](HEAD, 0)[0]
    assert len(linears_in(model, ["query", "value"], [1])) == 2
    with pytest.raises(TargetError, match="'classifier' is in none"):
        linears_in(model, ["query", "classifier"], [1])


@pytest.mark.parametrize("choice", ["first-2", "last-0", "2", [], [-1], 2, [True]])
def test_a_choice_that_is_none_is_refused(choice):
    with pytest.raises(ConfigErrors, match=r"method\.layers"):
        parse(LoRA, {"layers": choice}, "method")
