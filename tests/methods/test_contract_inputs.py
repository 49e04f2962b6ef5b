"""What every method promises about its inputs: padding, batches, generation, memory, bfloat16.

Trainables are randomised, so that each method does something. What the base itself does not
promise (gradient checkpointing in ALBERT) is not asked of a method.
"""

import copy

import pytest
import torch
from transformers.utils import logging

from lightune.engine.plan import Plan
from lightune.engine.prepare import prepare
from lightune.models.tiny_kinds import KINDS
from tests.methods.grid import (
    POSSIBLE,
    ROWS,
    UNEVEN,
    attached,
    base,
    loss,
    output,
    outside_the_base,
    over,
    randomise,
    trained,
)

READERS = [case for case in POSSIBLE if case.kind.form != "image"]
WRITERS = [case for case in POSSIBLE if case.kind.form in ("lm", "seq2seq")]
ONCE = [
    case
    for case in POSSIBLE
    if not (case.kind.decodes and case.kind.classifies and case.kind.name not in ("gpt2", "llama"))
]
"""Without the decoders' classifiers but two: the same blocks as in their language models."""
NEAR = {"rtol": 0, "atol": 1e-4}


def of_row(model, kind, rows, i, width=None, left=False):
    """The outputs that belong to the tokens of row `i`, whatever is beside and around it."""
    found = output(model, kind, rows, width=width, left=left)[i]
    if kind.form != "lm":
        return found
    width = max(width or 0, *map(len, rows))
    length = len(rows[i])
    found = found[-width:]  # a method may put its own positions before
    return found[width - length :] if left else found[:length]


@over(READERS)
def test_padding_and_the_rest_of_the_batch_do_not_change_a_row(case):
    model, _ = base(case.kind)
    with attached(case, model) as parts:
        randomise(parts)
        for i, row in enumerate(UNEVEN):
            alone = of_row(model, case.kind, [row], 0)
            torch.testing.assert_close(of_row(model, case.kind, UNEVEN, i, width=9), alone, **NEAR)
            if case.kind.decodes:
                left = of_row(model, case.kind, UNEVEN, i, width=9, left=True)
                torch.testing.assert_close(left, alone, **NEAR)


@over([case for case in POSSIBLE if case.kind.form == "image"])
def test_the_rest_of_a_batch_of_images_does_not_change_one(case):
    model, _ = base(case.kind)
    with attached(case, model) as parts:
        randomise(parts)
        both = output(model, case.kind)
        for i, row in enumerate(ROWS):
            torch.testing.assert_close(output(model, case.kind, [row])[0], both[i], **NEAR)


@over([case for case in ONCE if case in READERS])
def test_without_a_mask_is_as_with_a_mask_of_ones(case):
    model, _ = base(case.kind)
    inputs = case.kind.inputs(model, ROWS)
    with attached(case, model) as parts, torch.no_grad():
        randomise(parts)
        masked = model(**inputs).logits
        inputs.pop("attention_mask")
        torch.testing.assert_close(model(**inputs).logits, masked, **NEAR)


@over(WRITERS)
def test_cached_generation_equals_uncached(case):
    model, _ = base(case.kind)
    inputs = case.kind.inputs(model, UNEVEN, left=case.kind.decodes)
    inputs.pop("position_ids", None)
    inputs.pop("decoder_input_ids", None)
    how = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    how |= {"return_dict_in_generate": True, "output_logits": True}
    with attached(case, model) as parts:
        randomise(parts)
        cached = model.generate(**inputs, **how, use_cache=True)
        plain = model.generate(**inputs, **how, use_cache=False)
        for one, other in zip(cached.logits, plain.logits, strict=True):
            torch.testing.assert_close(one, other, **NEAR)
        assert torch.equal(cached.sequences, plain.sequences)
        ids = inputs["input_ids"]
        assert cached.sequences.shape[1] == (ids.shape[1] if case.kind.form == "lm" else 1) + 5


CHECKPOINTING = [case for case in ONCE if base(case.kind)[0].supports_gradient_checkpointing]


@over(CHECKPOINTING)
def test_gradient_checkpointing_gives_the_same_gradients(case):
    model = copy.deepcopy(base(case.kind)[0])
    quiet = logging.get_verbosity()
    logging.set_verbosity_error()  # "use_cache is incompatible": it turns it off itself
    with attached(case, model) as parts:
        randomise(parts)
        model.train()
        found = []
        for on in (False, True):
            if on:
                model.activation_checkpointing_enable({"use_reentrant": False})
            torch.manual_seed(3)  # the same dropout
            model.zero_grad()
            loss(model, case.kind).backward()
            found.append({name: p.grad.clone() for name, p in trained(parts).items()})
        for name, grad in found[0].items():
            atol = 1e-5 * max(1.0, grad.abs().max().item())
            torch.testing.assert_close(found[1][name], grad, rtol=0, atol=atol, msg=name)
    logging.set_verbosity(quiet)


def test_only_albert_does_without_checkpointing():
    without = {k for k, kind in KINDS.items() if not base(kind)[0].supports_gradient_checkpointing}
    assert without == {"albert"}


@over(ONCE)
def test_bfloat16_computes_the_same_up_to_its_rounding_and_trains_in_float32(case):
    model = copy.deepcopy(base(case.kind)[0])
    with attached(case, model) as parts:
        randomise(parts, strength=0.05)
        exact = output(model, case.kind)
        plan = Plan(dtype="bfloat16", attention="off")
        prepared = prepare(model, plan, outside_the_base(model, case.kind))
        size = exact.abs().max().item()
        found = output(model, case.kind).float()
        torch.testing.assert_close(found, exact, rtol=0, atol=0.05 * size)
        loss(model, case.kind).backward()
        images = {id(master): image for master, image in prepared.pairs}
        for name, parameter in trained(parts).items():
            assert parameter.dtype == torch.float32, name
            grad = images.get(id(parameter), parameter).grad
            assert grad is not None, name
            assert torch.isfinite(grad).all(), name


@pytest.mark.parametrize(
    "kind", [k for k in KINDS.values() if k.form != "image"], ids=lambda k: k.name
)
def test_the_base_itself_keeps_what_is_asked_of_the_methods(kind):
    """Were this red, the grid above would blame the methods."""
    model, _ = base(kind)
    for i, row in enumerate(UNEVEN):
        alone = of_row(model, kind, [row], 0)
        torch.testing.assert_close(of_row(model, kind, UNEVEN, i, width=9), alone, **NEAR)
