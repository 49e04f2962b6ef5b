"""Norm tuning against PEFT's LN_TUNING, in both directions; which layers are norms."""

import pytest
from torch import nn

from lightune.errors import MethodError, TargetError
from lightune.methods.norm_tuning import NormTuning
from lightune.nn.surgery import head_path, norm_paths
from tests.methods.peft_oracle import (
    EVERY,
    assert_equal,
    assert_exchanged,
    base,
    move,
    outside_the_base,
    with_peft,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def trained_weights(model: nn.Module) -> int:
    """Every vector of every norm outside the new head."""
    new = outside_the_base(model) if head_path(model) else []  # a language model has no new head
    head = tuple(f"{path}." for path in new)
    return sum(
        p.numel()
        for path in norm_paths(model)
        if not path.startswith(head)
        for p in model.get_submodule(path).parameters()
    )


@pytest.mark.parametrize("family", EVERY)
def test_output_loss_and_gradients_match_peft(family):
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    plain, model = base(family), base(family)
    part = NormTuning().attach(model)
    config = peft.LNTuningConfig(target_modules=norm_paths(model))
    theirs = with_peft(plain, config)
    move(part)
    assert_equal(model, part, theirs)


@pytest.mark.parametrize("family", EVERY)
def test_peft_loads_what_we_save_and_so_do_we(tmp_path, family):
    assert_exchanged(tmp_path / "adapter", family, NormTuning())


@pytest.mark.parametrize(
    ("family", "ends"),
    [
        ("llama", {"input_layernorm", "post_attention_layernorm", "norm"}),
        ("gpt2", {"ln_1", "ln_2", "ln_f"}),
        ("t5", {"layer_norm", "final_layer_norm"}),
        ("qwen3", {"input_layernorm", "post_attention_layernorm", "norm", "q_norm", "k_norm"}),
        ("bert", {"LayerNorm"}),
    ],
)
def test_the_layers_are_those_of_pefts_defaults(family, ends):
    model = base(family)
    assert {path.rpartition(".")[2] for path in norm_paths(model)} == ends
    every = {p for p, m in model.named_modules() if "layernorm" in type(m).__name__.lower()}
    assert every <= set(norm_paths(model))


def test_a_vector_of_another_kind_is_no_norm_and_none_at_all_is_refused():
    model = nn.Sequential(nn.Linear(4, 4), nn.PReLU(4), nn.LayerNorm(4, elementwise_affine=False))
    assert norm_paths(model) == []
    with pytest.raises(MethodError, match="none with weights"):
        NormTuning().attach(model.requires_grad_(False))


def test_targets_choose_layers_by_their_names():
    model = base("bert")
    part = NormTuning(targets=["attention.output.LayerNorm"]).attach(model)
    assert part.trainable
    assert all(".attention.output.LayerNorm." in path for path in part.trainable)
    with pytest.raises(TargetError, match="'LayerNrom'") as caught:
        NormTuning(targets=["LayerNrom"]).attach(base("bert"))
    assert "LayerNorm" in caught.value.mend
