"""BitFit trains the biases there are, and says so where there are none."""

import pytest
import torch
from torch import nn

from lightune.errors import MethodError
from lightune.methods.base import methods
from lightune.methods.beside import train_new_modules
from lightune.methods.bitfit import BitFit
from lightune.nn.surgery import head_path
from tests.methods.peft_oracle import EVERY, base, logits, outside_the_base

WITHOUT = {"modernbert", "llama", "qwen3", "gemma", "mistral", "phi3", "t5"}


def trained_weights(model: nn.Module) -> int:
    """As many as the blocks and embeddings have biases."""
    new = outside_the_base(model) if head_path(model) else []  # a language model has no new head
    head = tuple(f"{path}." for path in new)
    return sum(
        p.numel()
        for path, p in model.named_parameters()
        if path.endswith(".bias") and not path.startswith(head)
    )


@pytest.mark.parametrize("family", sorted(set(EVERY) - WITHOUT))
def test_gradients_are_those_of_training_the_biases_themselves(family):
    model, plain = base(family), base(family)
    beside = train_new_modules(model, outside_the_base(model))
    part = BitFit().attach(model)
    head = tuple(beside.trainable)
    wanted = {p for p, _ in plain.named_parameters() if p.endswith(".bias") and p not in head}
    assert part.trainable.keys() == wanted
    for path in wanted:
        plain.get_parameter(path).requires_grad_(True)
    for m in (model, plain):
        nn.functional.cross_entropy(logits(m), torch.tensor([0, 2])).backward()
    for path, parameter in part.trainable.items():
        torch.testing.assert_close(parameter.grad, plain.get_parameter(path).grad)
    assert part.trainable.keys() >= {p for p in wanted if "norm" in p.lower()}


@pytest.mark.parametrize("family", sorted(WITHOUT))
def test_a_model_without_biases_is_refused_with_the_reason(family):
    model = base(family)
    beside = train_new_modules(model, outside_the_base(model))  # T5's head has biases
    with pytest.raises(MethodError, match="has none") as error:
        BitFit().attach(model)
    assert type(model).__name__ in error.value.problem
    other = error.value.mend.split("`")[1].removeprefix("method: ")
    methods()[other]().attach(model).detach()
    beside.detach()


def test_the_base_is_never_written():
    model = base("bert")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    part = BitFit().attach(model)
    with torch.no_grad():
        for parameter in part.trainable.values():
            parameter.add_(1.0)
    part.detach()
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
