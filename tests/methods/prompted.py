"""What the tests of prompts and of prefixes do alike: PEFT's gradients, cached generation."""

import torch
from torch import Tensor, nn

IDS = torch.tensor([[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]])
"""Two texts of six tokens."""

Pairs = list[tuple[nn.Parameter, nn.Parameter]]


def assert_gradients_are_those_of_peft(outputs: list[Tensor], pairs: Pairs) -> None:
    """Logits of both models, and the gradients of `(ours, PEFT's)` for one loss."""
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-6)
    for logits in outputs:
        nn.functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
    for mine, other in pairs:
        rounding = 1e-5 * other.grad.abs().max().item()
        torch.testing.assert_close(mine.grad, other.grad, rtol=0, atol=rounding)


def assert_cached_generation_is_uncached(model: nn.Module, left: bool) -> None:
    """With the second text padded on the left, that row must also be as it is alone."""
    mask = torch.ones_like(IDS)
    if left:
        mask[1, :2] = 0
    arguments = {"attention_mask": mask, "do_sample": False, "max_new_tokens": 6}
    arguments |= {"pad_token_id": 0, "eos_token_id": None}
    fast = model.generate(IDS, use_cache=True, **arguments)
    assert torch.equal(fast, model.generate(IDS, use_cache=False, **arguments))
    if left:
        alone = model.generate(IDS[1:, 2:], **{**arguments, "attention_mask": mask[1:, 2:]})
        assert torch.equal(fast[1:, 2:], alone)
