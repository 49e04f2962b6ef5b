"""LoRA+ is LoRA with two learning rates: PEFT's `create_loraplus_optimizer` groups as an oracle."""

from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from lightune.assembly import Job
from lightune.methods.beside import train_new_modules
from lightune.methods.lora import LoRA
from lightune.methods.lora_plus import LoRAPlus
from lightune.nn.surgery import find_linears
from lightune.train.optimizer import Optimizer
from lightune.train.spec import OptimizerSpec
from tests.methods.peft_oracle import (
    assert_exchanged,
    base,
    logits,
    move,
    parameters_of,
    with_peft,
)
from tests.methods.test_lora import trained_weights  # noqa: F401, the contract reads it

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_rates_are_those_of_peft(family):
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    from peft.optimizers import create_loraplus_optimizer

    model = base(family)
    config = peft.LoraConfig(r=8, target_modules=list(find_linears(model, "all-linear")))
    theirs = with_peft(model, config)
    oracle = create_loraplus_optimizer(theirs, torch.optim.AdamW, lr=2e-4, loraplus_lr_ratio=6.0)
    names = {id(p): name for name, p in parameters_of(theirs).items()}
    expected = {names[id(p)]: g["lr"] for g in oracle.param_groups for p in g["params"]}

    method = LoRAPlus(ratio=6)
    part = method.attach(model)
    groups = method.param_groups(part, 2e-4)
    paths = {id(p): part.peft_names[path] for path, p in part.trainable.items()}
    assert {paths[id(p)]: g["lr"] for g in groups for p in g["params"]} == expected
    assert set(expected.values()) == {2e-4, 6 * 2e-4}

    optimizer = Optimizer(groups, part.trainable, OptimizerSpec())
    assert sorted(set(optimizer.peaks)) == [2e-4, 6 * 2e-4]


def test_a_step_moves_b_by_the_ratio():
    """AdamW's first step is the rate itself for every weight with a gradient."""
    model = base("bert")
    method = LoRAPlus(ratio=16)
    part = method.attach(model)
    move(part)
    before = {path: p.detach().clone() for path, p in part.trainable.items()}
    torch.nn.functional.cross_entropy(logits(model), torch.tensor([0, 2])).backward()
    spec = OptimizerSpec(weight_decay=0.0)
    Optimizer(method.param_groups(part, 1e-3), part.trainable, spec).step(1.0)
    for path, rate in ((p, 16e-3 if p.endswith(".B") else 1e-3) for p in before):
        moved = (part.trainable[path].detach() - before[path]).abs().max()
        assert float(moved) == pytest.approx(rate, rel=0.02), path


@pytest.mark.parametrize(
    ("method", "rates"),
    [(LoRA(), [5e-4]), (LoRAPlus(), [1e-4, 16e-4])],
)
def test_a_new_head_learns_at_loras_rate(method, rates):
    """As `lightune train` groups the weights: the head's own group comes last."""
    model = base("bert")
    parts = [train_new_modules(model, ["classifier"])]
    parts.insert(0, method.attach(model))
    job = SimpleNamespace(
        attachments=parts,
        recipe=SimpleNamespace(method=method),
        learning_rate=type(method).learning_rate,
    )
    *low_rank, head = Job.groups(job)
    assert [group["lr"] for group in low_rank] == pytest.approx(rates)
    assert head["lr"] == pytest.approx(5e-4)
    assert {id(p) for p in head["params"]} == {id(p) for p in parts[1].trainable.values()}
    assert method.rate_beside(2 * job.learning_rate) == pytest.approx(1e-3)


def test_it_is_lora_but_for_the_rates():
    outputs = []
    for method in (LoRA(), LoRAPlus()):
        model = base("bert")
        torch.manual_seed(0)
        part = method.attach(model)
        move(part)
        outputs.append(logits(model))
    assert torch.equal(*outputs)


def test_peft_loads_what_we_save_and_so_do_we(tmp_path):
    assert_exchanged(tmp_path / "adapter", "bert", LoRAPlus(rank=3))


@pytest.mark.parametrize("ratio", [0.5, float("nan"), float("inf")])
def test_a_ratio_below_one_or_not_finite_is_refused(ratio):
    with pytest.raises(ValidationError):
        LoRAPlus(ratio=ratio)
