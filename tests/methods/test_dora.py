"""DoRA against PEFT's, in both directions."""

import pytest
from torch import nn

from lightune.methods.dora import DoRA
from lightune.nn.surgery import find_linears, linears
from tests.methods.peft_oracle import EVERY, assert_equal, assert_exchanged, base, move, with_peft

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

SETTINGS = [{"rank": 3, "alpha": 4.5, "rank_stabilized": True, "targets": "all-linear"}]


def trained_weights(model: nn.Module) -> int:
    """rank * (in + out) + out for every linear layer of the blocks, and of a pooler behind."""
    every, chosen = linears(model), find_linears(model, "all-linear")
    return sum(
        8 * sum(every[path].weight.shape) + every[path](_row(every[path])).shape[-1]
        for path in chosen
    )


def _row(layer: nn.Module):
    width = layer.in_features if isinstance(layer, nn.Linear) else layer.weight.shape[0]
    return layer.weight.new_zeros(1, width)


@pytest.mark.parametrize("stabilized", [False, True])
@pytest.mark.parametrize("family", EVERY)
def test_output_loss_and_gradients_match_peft(family, stabilized):
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    model = base(family)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=12,
        use_rslora=stabilized,
        use_dora=True,
        target_modules=list(find_linears(model, "all-linear")),
    )
    theirs = with_peft(model, config)
    part = DoRA(rank=4, alpha=12, rank_stabilized=stabilized).attach(model)
    move(part)
    assert_equal(model, part, theirs)


@pytest.mark.parametrize("family", EVERY)
def test_peft_loads_what_we_save_and_so_do_we(tmp_path, family):
    assert_exchanged(tmp_path / "adapter", family, DoRA(rank=3, alpha=5.5))
