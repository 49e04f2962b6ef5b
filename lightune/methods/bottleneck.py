"""Bottleneck adapters: a small network with a residual inside every block.

Paper:      Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP" (arXiv:1902.00751),
            section 2.1: behind the output layer of the attention and of the MLP, before the sum
            with the residual,

                h <- h + s f(h)      f(h) = W_up act(W_down h + b_down) + b_up

            Pfeiffer et al. 2020 (arXiv:2005.00247), section 3: one adapter in a block, behind the
            MLP. z is the sum of the MLP's output and the residual; where a norm reads that sum
            (BERT), f reads it normed, and the norm is used again:

                z <- norm(z + s f(norm(z)))        elsewhere (GPT-2, Llama, T5)  z <- z + s f(z)

            He et al. 2021 (arXiv:2110.04366), table 1 and section 4.6, "scaled parallel adapter":
            beside the MLP, reading what the MLP reads,

                h <- MLP(x) + s f(x)      s = 4
Departs:    f has its input before the dropout of the sub-layer's output, the papers after it; in
            evaluation there is no difference. The norms stay frozen (Houlsby trains them too:
            combine with `norm_tuning`). A frozen pooler between the blocks and a new head gets an
            adapter of its own (`pooler`): accuracy on 2,000 records of MRPC was 0.763 with it and
            0.749 without, one run each. Pfeiffer's placement is that of AdapterHub's `seq_bn`.
Start:      W_up zero: the model starts as the base exactly. `start: bert` is AdapterHub's.
Cost:       2 * width * inner + width + inner trained weights for each adapter (and 1 or `width`
            for a learned scale): one in a block, with `houlsby` two, in the decoder of an
            encoder–decoder with `cross_attention` three; and one behind a pooler. They stay at
            prediction: nothing can be merged.
Errors:     `MethodError` where a block has no such parts.
Not here:   the layers and their backward pass (`nn/bottleneck.py`).
"""

from typing import ClassVar, Literal

from pydantic import Field
from torch import nn

from lightune.errors import MethodError
from lightune.methods.base import Attachment, Method
from lightune.nn.bottleneck import (
    Activation,
    Bottleneck,
    BottleneckLinear,
    BottleneckNorm,
    ParallelLinear,
    Slot,
    Start,
    Tap,
    behind_block,
)
from lightune.nn.roles import Block, find_roles, unwrapped
from lightune.nn.surgery import ALL_LINEAR, Surgery, find_linears, shape

INSIDE = "bottleneck"
"""Name of the adapter inside the layer or block that has it."""


class BottleneckAdapter(Method):
    """Small networks with a residual inside every block."""

    name: ClassVar[str] = "bottleneck"
    paper: ClassVar[str] = (
        "Houlsby et al. 2019, arXiv:1902.00751, section 2.1; Pfeiffer et al. 2020, "
        "arXiv:2005.00247, section 3; He et al. 2021, arXiv:2110.04366, table 1"
    )
    summary: ClassVar[str] = "a small network with a residual inside every block"
    learning_rate: ClassVar[float] = 1e-3

    placement: Literal["houlsby", "pfeiffer", "parallel"] = "houlsby"
    """`houlsby`: behind attention and MLP; `pfeiffer`: behind the MLP; `parallel`: beside it."""
    reduction: float = Field(default=16.0, gt=0, allow_inf_nan=False)
    """The block's width divided by the bottleneck's. Above 0."""
    width: int | None = Field(default=None, ge=1, le=65536)
    """Width of the bottleneck itself, in place of `reduction`. From 1."""
    activation: Activation = "gelu"
    """`relu`, `gelu`, `silu` (swish) or `tanh`."""
    scale: float | Literal["learned", "channel"] = 1.0
    """Factor of the adapter's output: a number, `learned` (one), or `channel` (one for each)."""
    start: Start = "identity"
    """`identity`: training starts exactly at the base model; `bert`: near it, as in AdapterHub."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of the adapter's outputs set to zero in training. From 0 to below 1."""
    cross_attention: bool = False
    """With `houlsby`, an adapter behind a decoder's cross attention too."""
    parallel_input: Literal["mlp", "residual"] = "mlp"
    """With `parallel`, f reads what the MLP reads (He et al.) or, as in AdapterHub, what the
    residual carries: they differ where a norm comes before the MLP."""
    pooler: bool = True
    """An adapter behind a pooler too, where a frozen one stands between the blocks and the head."""

    def inner(self, width: int) -> int:
        """Return the bottleneck's width in a block of `width`, at least 1."""
        return self.width or max(1, int(width // self.reduction))

    def attach(self, model: nn.Module) -> Attachment:
        blocks = find_roles(model).blocks
        poolers = _poolers(model, blocks) if self.pooler else {}
        surgery = Surgery(model)
        adapters: dict[str, Bottleneck] = {}
        try:
            for block in blocks:
                adapters |= self._enter(model, surgery, block)
        except MethodError:
            surgery.undo()
            raise
        for path, base in poolers.items():
            adapters[path] = self._adapter(shape(unwrapped(base))[1], base)
            surgery.replace(path, BottleneckLinear(base, adapters[path]))
        trainable = {
            f"{path}.{INSIDE}.{name}": parameter
            for path, adapter in adapters.items()
            for name, parameter in adapter.named_parameters()
        }
        return Attachment(surgery, trainable, "tensors")

    def _enter(self, model: nn.Module, surgery: Surgery, block: Block) -> dict[str, Bottleneck]:
        """Put the adapters into one block; return `{path of what holds one: the adapter}`."""
        if self.placement == "houlsby":
            outputs = [block.attention.output, block.mlp.output]
            if self.cross_attention and block.cross_attention:
                outputs.insert(1, block.cross_attention.output)
            entered = {}
            for path in outputs:
                base = model.get_submodule(path)
                entered[path] = self._adapter(block.width, base)
                surgery.replace(path, BottleneckLinear(base, entered[path]))
            return entered
        if self.placement == "parallel":
            return self._enter_parallel(model, surgery, block)
        if block.placement == "post":
            path = _norm(model, block)
            norm = model.get_submodule(path)
            adapter = self._adapter(block.width, norm)
            surgery.replace(path, BottleneckNorm(norm, adapter))
            return {path: adapter}
        whole = model.get_submodule(block.path)
        if hasattr(whole, INSIDE):
            raise MethodError(
                f"{type(model).__name__}: {block.path} has a part named {INSIDE!r} already",
                found="attached twice" if isinstance(whole.bottleneck, Bottleneck) else "",
                mend="detach the first one, or `placement: houlsby`",
            )
        adapter = self._adapter(block.width, whole)
        adapter.train(whole.training)
        whole.add_module(INSIDE, adapter)
        surgery.remember(lambda: delattr(whole, INSIDE))
        surgery.remember(whole.register_forward_hook(behind_block(adapter)).remove)
        return {block.path: adapter}

    def _enter_parallel(
        self, model: nn.Module, surgery: Surgery, block: Block
    ) -> dict[str, Bottleneck]:
        """Put an adapter beside the MLP. Where norms come behind, both inputs are the same."""
        before = self.parallel_input == "residual" and block.placement in ("pre", "both")
        tapped = _norm(model, block) if before else block.mlp.inputs[0]
        slot, path = Slot(), block.mlp.output
        surgery.replace(tapped, Tap(model.get_submodule(tapped), slot))
        base = model.get_submodule(path)
        adapter = self._adapter(block.width, base)
        surgery.replace(path, ParallelLinear(base, adapter, slot))
        return {path: adapter}

    def _adapter(self, width: int, beside: nn.Module) -> Bottleneck:
        return Bottleneck(
            width,
            self.inner(width),
            self.activation,
            self.scale,
            self.start,
            self.dropout,
            device=next(beside.parameters()).device,
        )


def _poolers(model: nn.Module, blocks: tuple[Block, ...]) -> dict[str, nn.Module]:
    """Return `{path: layer}` of the backbone's frozen linear layers behind its blocks."""
    inside = tuple(f"{block.path}." for block in blocks)
    behind = [p for p in find_linears(model, ALL_LINEAR) if not p.startswith(inside)]
    # Another method's wrapper may compute with its layer's weight alone, so stay outside of it.
    outer = [path.removesuffix(".base") for path in behind]
    return {path: model.get_submodule(path) for path in outer}


def _norm(model: nn.Module, block: Block) -> str:
    """Return the path of the MLP's norm.

    Raises:
        MethodError: the block has none.
    """
    if block.mlp.norm is None:
        raise MethodError(
            f"{type(model).__name__}: no norm at the MLP was found in {block.path}",
            found=f"norms: {', '.join(block.norms) or 'none'}",
            mend="`placement: houlsby`, which needs none",
        )
    return block.mlp.norm
