"""What each part of a model is for: attention, projections, MLP, norms, embeddings, head.

Why:        a method asks for "the key projection of every block" or "the norm behind the MLP" and
            never for a model's class, so it works on every family, also on ones that came later.
How:        blocks are the innermost elements of a `ModuleList` that hold an attention and an MLP.
            An attention is a module that holds query, key and value projections, known by the
            names that Transformers uses (`PROJECTIONS`, `FUSED`). The MLP is what linear layers
            remain in the block, in the order input, [gate,] output, checked by their shapes. Norms
            are told by a one-dimensional weight as wide as the block.
Invariants: paths only, no modules; nothing is run and nothing is changed; a layer that a method
            has wrapped counts as the layer inside it, under the wrapper's path.
Errors:     `MethodError` says which role of which block was not found (mixtures of experts, state
            spaces and others that have no such structure).
Not here:   finding layers by name (`surgery.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import nn

from lightune.errors import MethodError
from lightune.nn.surgery import LINEAR_TYPES, head_path, shape

PROJECTIONS = (
    ("query", "key", "value"),
    ("q_proj", "k_proj", "v_proj"),
    ("query_proj", "key_proj", "value_proj"),
    ("q_lin", "k_lin", "v_lin"),
    ("q", "k", "v"),
)
"""Names of separate projections, as (query, key, value)."""

FUSED = ("c_attn", "qkv_proj", "Wqkv", "query_key_value", "qkv", "in_proj")
"""Names of one projection that makes query, key and value at once."""

ATTENTION_OUTPUTS = ("o_proj", "out_proj", "dense", "out_lin", "c_proj", "Wo", "o", "proj")
"""Names of the attention's output layer, where it lies beside the projections."""

CROSS_NAMES = ("encdecattention", "encoder_attn", "cross")
"""What the path of a cross attention contains, in lower case."""

_WITHIN_ATTENTION = ("q_norm", "k_norm", "query_norm", "key_norm", "q_layernorm", "k_layernorm")
"""Norms of single projections, which are no norms of the block."""

Placement = Literal["pre", "post", "both", "branch"]
"""Where a block's norms are: before a sub-layer, after its sum with the residual, both before the
sub-layer and on its output (Gemma 2), or only on its output before the sum (OLMo 2)."""


Side = Literal["encoder", "decoder", "only"]
"""`encoder` or `decoder` in a model that has both, `only` elsewhere."""


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention of a block.

    Attributes:
        path: the module that holds the projections and computes the attention.
        query, key, value: paths of the projections; None where they are fused.
        fused: path of the projection that makes all three; None where they are separate.
        output: path of the linear layer behind it.
        cross: it reads another sequence (the encoder's output).
        norm: path of the norm before it (`pre`, `both`) or behind its sum (`post`) or behind its
            output (`branch`); None where there is none.
    """

    path: str
    query: str | None
    key: str | None
    value: str | None
    fused: str | None
    output: str
    cross: bool
    norm: str | None


@dataclass(frozen=True, slots=True)
class Mlp:
    """The feed-forward part of a block.

    Attributes:
        inputs: paths of the layers that read the block's width: one, or gate and up.
        fused: one input layer makes gate and up at once.
        output: path of the layer that returns to the block's width.
        norm: see `Attention.norm`.
    """

    inputs: tuple[str, ...]
    fused: bool
    output: str
    norm: str | None


@dataclass(frozen=True, slots=True)
class Block:
    """One repeated block.

    Attributes:
        path: of the block.
        side: see `Side`.
        width: of the hidden states.
        attention: its self attention.
        cross_attention: None where there is none.
        mlp: its feed-forward part.
        norms: paths of all norms as wide as the block, in the model's order.
        placement: where the norms are; None where the block has none.
    """

    path: str
    side: Side
    width: int
    attention: Attention
    cross_attention: Attention | None
    mlp: Mlp
    norms: tuple[str, ...]
    placement: Placement | None


@dataclass(frozen=True, slots=True)
class Roles:
    """What the parts of one model are for.

    Attributes:
        blocks: in the model's order, an encoder's before its decoder's. ALBERT has one, which is
            used several times.
        embedding: path of the token (or patch) embedding; None where there is none.
        head: see `lightune.nn.surgery.head_path`.
    """

    blocks: tuple[Block, ...]
    embedding: str | None
    head: str | None

    def side(self, name: Side) -> tuple[Block, ...]:
        """Return the blocks of one side."""
        return tuple(block for block in self.blocks if block.side == name)


def find_roles(model: Any) -> Roles:
    """Return the roles of a Transformers model's parts.

    Raises:
        MethodError: the model has no blocks, or a block lacks one of its parts.
    """
    paths = _block_paths(model)
    if not paths:
        raise MethodError(
            f"{type(model).__name__} has no blocks with an attention and an MLP",
            found=f"parts: {', '.join(name for name, _ in model.named_children())}",
            mend="`method: lora`, which needs linear layers only",
        )
    return Roles(
        blocks=tuple(_block(model, path) for path in paths),
        embedding=_embedding_path(model),
        head=head_path(model),
    )


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the layer inside a method's wrappers, or the layer itself."""
    while isinstance(inner := getattr(module, "base", None), nn.Module):
        module = inner
    return module


def is_linear(module: nn.Module) -> bool:
    """Say whether a module is a linear layer, or a method's wrapper around one."""
    return isinstance(unwrapped(module), LINEAR_TYPES)


def _walk(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield (path, module) of everything below `module`, not looking into layers or wrappers."""
    for name, child in module.named_children():
        yield f"{path}.{name}", child
        if unwrapped(child) is child and not is_linear(child):
            yield from _walk(child, f"{path}.{name}")


def _projections(module: nn.Module) -> tuple[str, ...] | None:
    """Return the names of the projections that lie directly in `module`: three, one, or None."""
    linear = {name for name, child in module.named_children() if is_linear(child)}
    for names in PROJECTIONS:
        if linear.issuperset(names):
            return names
    return next(((name,) for name in FUSED if name in linear), None)


def _block_paths(model: nn.Module) -> list[str]:
    found: list[str] = []
    for path, module in model.named_modules():
        if not isinstance(module, nn.ModuleList):
            continue
        for index, child in enumerate(module):
            below = list(_walk(child, ""))
            holders = [p for p, m in below if _projections(m)]
            inside = tuple(f"{p}." for p in holders)
            rest = [p for p, m in below if is_linear(m) and not p.startswith(inside)]
            # BERT's attention output lies beside the projections' module, so one is not enough
            if holders and len(rest) >= 2:
                found.append(f"{path}.{index}" if path else str(index))
    return [p for p in found if not any(other.startswith(f"{p}.") for other in found)]


def _block(model: Any, path: str) -> Block:
    below = dict(_walk(model.get_submodule(path), path))
    parts = [_attention(model, path, p, below) for p, m in below.items() if _projections(m)]
    own = [a for a, _ in parts if not a.cross]
    crossing = [a for a, _ in parts if a.cross]
    if len(own) != 1 or len(crossing) > 1:
        found = [a.path for a in (*own, *crossing)]
        raise _missing(model, path, "one self attention and at most one cross attention", found)
    width = shape(unwrapped(below[own[0].output]))[1]
    mlp = _mlp(model, path, width, below, tuple(f"{root}." for _, root in parts))
    outputs = [*(a.output for a in (*own, *crossing)), mlp.output]
    norms, behind, placement = _norms(model, path, width, below, outputs)
    two_sides = bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))
    return Block(
        path=path,
        side=("decoder" if crossing else "encoder") if two_sides else "only",
        width=width,
        attention=replace(own[0], norm=behind[0]),
        cross_attention=replace(crossing[0], norm=behind[1]) if crossing else None,
        mlp=replace(mlp, norm=behind[-1]),
        norms=norms,
        placement=placement,
    )


Below = Mapping[str, nn.Module]


def _attention(model: nn.Module, block: str, path: str, below: Below) -> tuple[Attention, str]:
    """Return an attention, its norm left open, and the path of all that belongs to it."""
    names = _projections(below[path]) or ()
    root, output = path, None
    for name in ATTENTION_OUTPUTS:
        candidate = f"{path}.{name}"
        if name not in names and candidate in below and is_linear(below[candidate]):
            output = candidate
            break
    parent = path.rpartition(".")[0]
    if output is None and parent != block:
        beside = [
            p
            for p, m in below.items()
            if p.startswith(f"{parent}.") and not p.startswith(f"{path}.") and is_linear(m)
        ]
        if len(beside) == 1:
            root, output = parent, beside[0]
    if output is None:
        linears = [p for p, m in below.items() if p.startswith(f"{path}.") and is_linear(m)]
        raise _missing(model, block, f"the output layer of {path}", linears)
    query, key, value = (f"{path}.{n}" for n in names) if len(names) == 3 else (None, None, None)
    attention = Attention(
        path=path,
        query=query,
        key=key,
        value=value,
        fused=None if len(names) == 3 else f"{path}.{names[0]}",
        output=output,
        cross=any(word in path[len(block) :].lower() for word in CROSS_NAMES),
        norm=None,
    )
    return attention, root


def _mlp(
    model: nn.Module, block: str, width: int, below: Below, attentions: tuple[str, ...]
) -> Mlp:
    """Return the feed-forward part: the linear layers that no attention has. Its norm is open."""
    rest = {
        p: shape(unwrapped(m))
        for p, m in below.items()
        if is_linear(m) and not p.startswith(attentions)
    }
    *inputs, output = rest or ("",)
    inner, outer = rest.get(output, (0, 0))
    widths = {rest[p] for p in inputs}
    if (
        len(inputs) not in (1, 2)
        or outer != width
        or not widths
        <= {
            (width, inner),
            (width, 2 * inner),
        }
    ):
        raise _missing(model, block, "an MLP of two or three linear layers", list(rest))
    return Mlp(tuple(inputs), len(inputs) == 1 and widths == {(width, 2 * inner)}, output, None)


def _norms(
    model: nn.Module, block: str, width: int, below: Below, outputs: list[str]
) -> tuple[tuple[str, ...], list[str | None], Placement | None]:
    """Return all norms of a block, the one of each sub-layer, and where they are.

    Args:
        outputs: the last linear layer of each sub-layer, in the order of computation.
    """
    norms = tuple(p for p, m in below.items() if _is_norm(p, m, width))
    of: list[str | None] = [None] * len(outputs)
    for i, output in enumerate(outputs):
        parent = output.rpartition(".")[0]
        of[i] = next((n for n in norms if n.rpartition(".")[0] == parent != block), None)
    post = any(of)  # BERT: the norm lies beside the output layer, whose sum it reads
    # An Identity keeps the place of a norm that is left out (ModernBERT's first).
    slots = [p for p, m in below.items() if (p in norms and p not in of) or _is_left_out(p, m)]
    open_places = [i for i, norm in enumerate(of) if norm is None]
    both = not post and len(slots) == 2 * len(open_places)
    if both:
        slots = slots[::2]
    elif len(slots) == 1:
        slots *= len(open_places)  # sub-layers side by side read one norm
    for i, norm in zip(open_places, slots, strict=False):
        of[i] = norm if norm in norms else None
    if not norms:
        return norms, of, None
    if post or both:
        return norms, of, "post" if post else "both"
    if any(p.endswith("post_feedforward_layernorm") for p in norms):
        return norms, of, "branch"
    return norms, of, "pre" if _has_final_norm(model, block, width) else "post"


def _is_norm(path: str, module: nn.Module, width: int) -> bool:
    weight = unwrapped(module)._parameters.get("weight")
    return (
        weight is not None
        and tuple(weight.shape) == (width,)
        and not path.endswith(_WITHIN_ATTENTION)
    )


def _is_left_out(path: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Identity) and "norm" in path.rpartition(".")[2].lower()


def _has_final_norm(model: nn.Module, block: str, width: int) -> bool:
    """Say whether a norm reads the last block's output, as it must where norms come before.

    It lies beside the list of blocks or one level above. The trees of BART and mBART differ in
    nothing else.
    """
    stack = block.rpartition(".")[0].rpartition(".")[0]
    for path in dict.fromkeys((stack, stack.rpartition(".")[0])):
        for name, child in model.get_submodule(path).named_children():
            if _is_norm(name, child, width) and "embed" not in name:
                return True
    return False


def _embedding_path(model: Any) -> str | None:
    try:
        embedding = model.get_input_embeddings()
    except (AttributeError, RuntimeError):  # Transformers has no embedding to name
        return None
    return next((path for path, m in model.named_modules() if m is embedding), None)


def _missing(model: nn.Module, block: str, what: str, found: list[str]) -> MethodError:
    inside = [path.removeprefix(f"{block}.") for path in found]
    return MethodError(
        f"{type(model).__name__}: {what} was not found in {block}",
        found=", ".join(inside) or "no linear layers",
        mend="`method: lora`, which needs linear layers only",
    )
