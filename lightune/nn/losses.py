"""Cross-entropy of a language model, computed where there is a label and nowhere else.

    loss = sum over labelled tokens of  logsumexp(z) - z[target],     z = f(h W^T + b)

with h `[tokens, width]` the last hidden states, W `[vocabulary, width]` the head, and f what some
models do to their logits (a factor, a soft cap).

Why:        logits are the largest tensor of a small language model: 4 x 256 tokens of SmolLM2 make
            200 MB of them in float32, held several times over, though most tokens (the prompt, the
            padding) have no label. Here the head sees labelled positions only, a chunk at a time,
            and the gradient is formed in the logits' own memory during the forward pass, so that
            none of them is kept.
How:        `labelled` runs the whole model, so that every hook of a method takes part, but holds
            the head's input back. A plain linear head is then computed by `ChunkedCrossEntropy`.
            A head that is wrapped or hooked (LoRA on `lm_head`) is called as a module on the
            labelled positions: reading its weight would leave what was wrapped around it
            untrained.
Dtypes:     products in the dtype of h, everything after them in float32; the gradient of a trained
            W is summed in float32.
Invariants: a head that is not trained gets no gradient, and none is computed. `choose` compares
            with the model's own logits once; where they differ, all logits are computed.
Errors:     `ModelError` where a model without vocabulary is asked for such a loss.
Not here:   which tokens are labelled (`tasks/`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakSet

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from lightune.errors import ModelError

NO_LABEL = -100
"""The target of a token that is not learnt."""

CHUNK_ELEMENTS = 1 << 23
"""Logits formed at a time: 32 MB in float32."""

PROBE_TOLERANCE = 0.02
"""Largest difference, relative to the largest logit, that `choose` takes for rounding (bfloat16
keeps eight bits)."""

_all_logits: WeakSet[nn.Module] = WeakSet()


@dataclass(frozen=True, slots=True)
class After:
    """What a model does to its logits: `cap * tanh(factor * z / cap)`, without a cap `factor * z`.

    Attributes:
        factor: 1 for most.
        cap: soft cap (Gemma 2); 0 for none.
    """

    factor: float = 1.0
    cap: float = 0.0

    def __call__(self, logits: Tensor) -> Tensor:
        scaled = logits * self.factor if self.factor != 1 else logits
        return torch.tanh(scaled / self.cap) * self.cap if self.cap else scaled


AS_THEY_ARE = After()


class ChunkedCrossEntropy(torch.autograd.Function):
    """Sum of the cross-entropies: hidden `[tokens, width]`, weight `[vocabulary, width]`, bias
    `[vocabulary]` or None, targets `[tokens]` -> float32 scalar."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        after: After,
        chunk: int,
    ) -> Tensor:
        to_hidden, to_weight, to_bias = ctx.needs_input_grad[:3]
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        grad_hidden = torch.empty_like(hidden) if to_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if to_weight else None
        grad_bias = None
        if to_bias and bias is not None:
            grad_bias = torch.zeros_like(bias, dtype=torch.float32)
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            rows, wanted = hidden[part], targets[part].unsqueeze(1)
            losses, shares, slope = _softmax(rows, weight, bias, wanted, after)
            total += losses.sum()
            if not any(ctx.needs_input_grad[:3]):
                continue
            # softmax - one-hot is the gradient; from here on `shares` holds it
            shares.scatter_add_(1, wanted, torch.full_like(losses, -1.0).unsqueeze(1))
            if slope is not None:
                shares.mul_(slope)
            if after.factor != 1:
                shares.mul_(after.factor)
            low = shares.to(hidden.dtype)
            if grad_hidden is not None:
                torch.mm(low, weight, out=grad_hidden[part])
            if grad_weight is not None:
                grad_weight += low.T @ rows
            if grad_bias is not None:
                grad_bias += shares.sum(0)
        ctx.save_for_backward(grad_hidden, grad_weight, grad_bias)
        ctx.dtypes = (hidden.dtype, weight.dtype, None if bias is None else bias.dtype)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        # in float32: what is divided by the number of tokens may be too small for 16 bits
        made = [
            None if kept is None else (kept.float() * grad).to(dtype)
            for kept, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return (*made, None, None, None)


def _softmax(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, wanted: Tensor, after: After
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return losses `[rows]`, softmax `[rows, vocabulary]` in float32, and the soft cap's slope."""
    logits = F.linear(hidden, weight, bias).float()
    slope = None
    if after.factor != 1:
        logits.mul_(after.factor)
    if after.cap:
        logits.div_(after.cap).tanh_()
        slope = 1 - logits.square()
        logits.mul_(after.cap)
    picked = logits.gather(1, wanted).squeeze(1)
    largest = logits.amax(1)
    torch.softmax(logits, dim=-1, out=logits)
    # the largest share is exp(largest - logsumexp), so this is exact where exp(picked) underflows
    return largest - logits.amax(1).log() - picked, logits, slope


def cross_entropy_sum(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    bias: Tensor | None = None,
    after: After = AS_THEY_ARE,
    chunk: int | None = None,
) -> Tensor:
    """Return the sum of the cross-entropies of some tokens, a float32 scalar.

    Args:
        hidden: `[tokens, width]`, at labelled positions only.
        weight: `[vocabulary, width]`.
        targets: `[tokens]`, each the id that comes next.
        bias: `[vocabulary]`.
        after: what the model does to its logits.
        chunk: tokens at a time; None takes what keeps a chunk's logits at `CHUNK_ELEMENTS`.
    """
    size = chunk or max(1, CHUNK_ELEMENTS // len(weight))
    return ChunkedCrossEntropy.apply(hidden, weight, bias, targets, after, size)


@dataclass(slots=True)
class Labelled:
    """The labelled tokens of a batch, and what gives their losses.

    Attributes:
        hidden: `[tokens, width]`; or their logits `[tokens, vocabulary]` where `head` is None.
        targets: `[tokens]`.
        rows: `[tokens]`, the row of the batch that each is in.
        head: the output layer.
        after: what the model does to the head's output.
        bias: `[vocabulary]`, what it adds to the head's output before; None for nothing.
    """

    hidden: Tensor
    targets: Tensor
    rows: Tensor
    head: nn.Module | None
    after: After = AS_THEY_ARE
    bias: Tensor | None = None

    def sum(self) -> Tensor:
        """Return the sum of the losses, a float32 scalar with gradient."""
        if self.head is not None and is_plain(self.head, self.hidden):
            weight, bias = self.head.weight, self.head.bias
            if self.bias is not None:
                extra = self.bias.to(self.hidden.dtype)
                bias = extra if bias is None else bias + extra  # type: ignore[operator]
            return cross_entropy_sum(self.hidden, weight, self.targets, bias, self.after)  # type: ignore[arg-type]
        return F.cross_entropy(self._logits(slice(None)), self.targets, reduction="sum")

    def mean(self) -> Tensor:
        """Return the mean loss of the labelled tokens."""
        return self.sum() / len(self.targets)

    @torch.no_grad()
    def each(self) -> Tensor:
        """Return the loss of every token, `[tokens]` in float32, without gradient."""
        losses = torch.empty(len(self.targets), device=self.hidden.device)
        chunk = max(1, CHUNK_ELEMENTS // self._vocabulary())
        for start in range(0, len(losses), chunk):
            part = slice(start, start + chunk)
            logits = self._logits(part)
            losses[part] = F.cross_entropy(logits, self.targets[part], reduction="none")
        return losses

    def _logits(self, part: slice) -> Tensor:
        if self.head is None:
            return self.hidden[part].float()
        logits = self.head(self.hidden[part]).float()
        return self.after(logits if self.bias is None else logits + self.bias.float())

    def _vocabulary(self) -> int:
        if self.head is None:
            return self.hidden.shape[1]
        weight: Any = getattr(self.head, "weight", self.hidden)
        return int(max(weight.shape))


def labelled(model: nn.Module, inputs: Mapping[str, Tensor], targets: Tensor) -> Labelled:
    """Run a language model and return the hidden states that predict labelled tokens.

    Args:
        model: with the output layer that `get_output_embeddings` gives.
        inputs: arguments of its forward, each `[batch, seq]`; of an encoder with a decoder,
            `decoder_input_ids` are as wide as `targets`.
        targets: `[batch, seq]`: at each position its own id, or `NO_LABEL`. The state *before* a
            position predicts it, so a label at position 0 counts for nothing.

    What a method puts in front of the text (prompts) is left out: only the last `seq` states count.
    """
    wanted = targets[:, 1:] != NO_LABEL
    rows, ids = wanted.nonzero()[:, 0], targets[:, 1:][wanted]
    head = output_head(model)
    if model in _all_logits or head is None:
        logits = model(**inputs).logits
        return Labelled(_before(logits, targets)[wanted], ids, rows, None)
    hidden = _held_back(model, head, inputs)
    states = _before(hidden, targets)[wanted]
    return Labelled(states, ids, rows, head, after_of(model), added_to_logits(model))


def output_head(model: nn.Module) -> nn.Module | None:
    """Return the layer that gives the vocabulary's logits, with all that is wrapped around it."""
    find: Any = getattr(model, "get_output_embeddings", None)
    found = find() if find else None
    return found if isinstance(found, nn.Module) else None


def is_plain(head: nn.Module, hidden: Tensor) -> bool:
    """Return whether the head is a linear layer and nothing else, so that its weight says all."""
    hooked = head._forward_hooks or head._forward_pre_hooks or head._backward_hooks
    return type(head) is nn.Linear and not hooked and head.weight.dtype == hidden.dtype


def after_of(model: nn.Module) -> After:
    """Return what the model does to its logits, as its configuration says."""
    whole: Any = getattr(model, "config", None)
    config = whole.get_text_config() if hasattr(whole, "get_text_config") else whole
    factor = 1.0
    for name in ("logit_scale", "lm_head_multiplier"):  # Cohere; Falcon H1
        factor *= float(getattr(config, name, None) or 1.0)
    factor /= float(getattr(config, "logits_scaling", None) or 1.0)  # Granite
    return After(factor, float(getattr(config, "final_logit_softcapping", None) or 0.0))


def added_to_logits(model: nn.Module) -> Tensor | None:
    """Return what BART and Marian add to their head's output, `[vocabulary]`; None for others."""
    found = getattr(model, "final_logits_bias", None)
    return found.flatten() if isinstance(found, Tensor) else None


def choose(model: Any, wanted: Literal["auto", "full"] = "auto") -> list[str]:
    """Decide how this model's losses are computed from now on; return what is to be said of it.

    Args:
        model: a causal language model, ready to run; others are left alone.
        wanted: `auto` computes logits at labelled positions only, if two short texts show that
            they are the model's own; `full` always computes all of them.
    """
    _all_logits.discard(model)
    head = output_head(model)
    if head is None:
        return []
    if wanted == "full":
        _all_logits.add(model)
    elif not _agrees(model, head):
        _all_logits.add(model)
        return [
            f"{type(model).__name__} does more to its logits than is known here: all of them are "
            "computed"
        ]
    return []


@torch.no_grad()
def _agrees(model: Any, head: nn.Module) -> bool:
    """Return whether head and `after_of` give the model's own logits, for two short texts."""
    device = next(model.parameters()).device
    words = model.config.get_text_config().vocab_size
    ids = (torch.arange(2, 18, device=device) % words).view(2, 8)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        own = model(**inputs).logits.float()
        caught: list[Tensor] = []
        with _reading(head, caught, keep=True):
            model(**inputs)
        if not caught:
            return False
        made, bias = head(caught[0]).float(), added_to_logits(model)
        made = after_of(model)(made if bias is None else made + bias.float())
    finally:
        for module, training in modes:
            module.training = training
    own, made = own[:, -8:], made[:, -8:]  # what a method puts in front of the text left out
    same = own.shape == made.shape
    return same and bool((made - own).abs().max() <= PROBE_TOLERANCE * own.abs().max())


def _held_back(model: nn.Module, head: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """Run the model with nothing for its head to do; return what the head would have read."""
    caught: list[Tensor] = []
    with _reading(head, caught, keep=False):
        model(**inputs)
    if not caught:
        raise ModelError(
            f"{type(model).__name__} does not call its output layer",
            found=type(head).__name__,
            mend="`train.engine.losses: full` takes the logits as the model gives them",
        )
    return caught[0]


@contextmanager
def _reading(head: nn.Module, caught: list[Tensor], keep: bool) -> Iterator[None]:
    """Put what goes into `head` into `caught`, and pass it on if `keep` says so."""

    def catch(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...] | None:
        caught.append(args[0])
        return None if keep else (args[0][:, :0], *args[1:])

    handle = head.register_forward_pre_hook(catch, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def _before(states: Tensor, targets: Tensor) -> Tensor:
    """Return the states before positions 1, 2, … of the text, `[batch, seq - 1, …]`."""
    return states[:, -targets.shape[1] :][:, :-1]
