"""Which weights `last_layers` trains: the last blocks and what stands between them and the head."""

import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from lightune.errors import ConfigErrors, TargetError
from lightune.methods.last_layers import LastLayers
from lightune.models.tiny import ENCODER_DECODERS, FAMILIES
from lightune.settings import parse
from lightune.types import HeadSpec

HEAD = HeadSpec("sequence_classification", ("no", "yes"))
BEHIND = {
    "bert": {"bert.pooler"},
    "albert": {"albert.pooler"},
    "modernbert": {"model.final_norm"},
    "gpt2": {"transformer.ln_f"},
    "llama": {"model.norm"},
    "gpt_neox": {"gpt_neox.final_layer_norm"},
    "roberta": set(),
    "distilbert": set(),
    "deberta": set(),
}
BLOCK = {"bert": "bert.encoder.layer.1", "gpt2": "transformer.h.1", "llama": "model.layers.1"}


def parts(paths, block: str) -> set[str]:
    """The modules of two names that `paths` lie in; the block stands for all of its own."""
    return {
        block if path.startswith(f"{block}.") else ".".join(path.split(".")[:2]) for path in paths
    }


@pytest.mark.parametrize("family", BLOCK)
def test_the_last_block_and_what_is_behind_it_are_trained(family):
    model = FAMILIES[family](HEAD, 0)[0]
    inside = {n for n, _ in model.named_parameters() if n.startswith(f"{BLOCK[family]}.")}
    part = LastLayers(layers=1).attach(model)
    assert parts(part.trainable, BLOCK[family]) == {BLOCK[family]} | BEHIND[family]
    assert inside <= part.trainable.keys()


@pytest.mark.parametrize("family", BEHIND)
def test_the_parts_behind_the_blocks_are_trained(family):
    model = FAMILIES[family](HEAD, 0)[0]
    trained = LastLayers(layers=1).attach(model).trainable
    outside = {
        ".".join(p.split(".")[:2]) for p in trained if not any(map(str.isdigit, p.split(".")))
    }
    assert outside == BEHIND[family]


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_an_encoder_decoder_trains_the_last_block_of_each(family):
    model = ENCODER_DECODERS[family](HEAD, 0)[0]
    trained = LastLayers(layers=1).attach(model).trainable
    numbers = {(p.split(".")[1], next(n for n in p.split(".") if n.isdigit())) for p in trained}
    assert numbers == {("encoder", "1"), ("decoder", "1")}


def test_the_trained_weights_are_copies():
    model = FAMILIES["bert"](HEAD, 0)[0]
    path = "bert.encoder.layer.1.output.dense.weight"
    own = model.get_parameter(path)
    part = LastLayers(layers=1).attach(model)
    with torch.no_grad():
        part.trainable[path].add_(1)
    assert not torch.equal(own, model.get_parameter(path))
    part.detach()
    assert model.get_parameter(path) is own


def test_more_blocks_than_there_are_is_said():
    with pytest.raises(TargetError, match="has 2 blocks") as error:
        LastLayers(layers=3).attach(FAMILIES["bert"](HEAD, 0)[0])
    assert "last-2 at most" in error.value.mend


def test_no_block_at_all_is_said():
    with pytest.raises(ConfigErrors):
        parse(LastLayers, {"layers": 0}, "method")


@pytest.mark.parametrize(("blocks", "trained"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
def test_a_quarter_of_the_blocks_is_trained_by_default(blocks, trained):
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1, "vocab_size": 9}
    model = LlamaModel(LlamaConfig(num_hidden_layers=blocks, **sizes)).requires_grad_(False)
    numbers = {int(p.split(".")[1]) for p in LastLayers().attach(model).trainable if "layers" in p}
    assert numbers == set(range(blocks - trained, blocks))
