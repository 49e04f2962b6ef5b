"""How many weights each method trains at its default settings: the cost formulas of the docs.

Written out from the base's shapes alone, without the method's code. A method of another package
gives its own as `trained_weights(model)` in its test file.
"""

import re

from torch import nn

from lightune.nn.roles import find_roles
from lightune.nn.surgery import head_path, linears


def lora(model: nn.Module) -> int:
    """rank * (in + out) for every linear layer of the blocks, and of a pooler behind them."""
    return sum(8 * sum(layer.weight.shape) for layer in adapted(model))


def adapted(model: nn.Module) -> list[nn.Module]:
    """The linear layers of the blocks, and those of a pooler behind them."""
    return [
        layer
        for path, layer in linears(model).items()
        if any(part.isdigit() for part in path.split("."))
        or path.startswith(f"{model.base_model_prefix}.pooler")
    ]


def full(model: nn.Module) -> int:
    """Every weight once; neither the head beside it, nor tables of sines (Marian's positions)."""
    beside = head_parts(model)
    fixed = {
        id(p)
        for m in model.modules()
        if "Sinusoidal" in type(m).__name__
        for p in m.parameters(recurse=False)
    }
    return sum(
        p.numel()
        for name, p in model.named_parameters()
        if not name.startswith(beside) and id(p) not in fixed
    )


def head_parts(model: nn.Module) -> tuple[str, ...]:
    """Beginnings of the paths of what is trained beside every method."""
    if head_path(model) is None:
        return ()
    parts = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    return tuple(f"{name}." for name in parts)


def dora(model: nn.Module) -> int:
    """LoRA's, and one length for every output of a layer."""
    return lora(model) + sum(sum(layer.weight.shape) - width_in(layer) for layer in adapted(model))


def width_in(layer: nn.Module) -> int:
    return layer.weight.shape[0 if type(layer).__name__ == "Conv1D" else 1]


def of_base(model: nn.Module, wanted) -> int:
    """The weights of the base, without what is trained beside, for which `wanted(path)` holds."""
    beside = head_parts(model)
    return sum(
        p.numel()
        for path, p in model.named_parameters()
        if wanted(path) and not path.startswith(beside)
    )


def norms(model: nn.Module) -> int:
    """Every weight and bias of a module whose class is called a norm."""
    return of_base(
        model,
        lambda path: "norm" in type(model.get_submodule(path.rpartition(".")[0])).__name__.lower(),
    )


def prompt(model: nn.Module) -> int:
    """20 tokens times the width of the word embedding."""
    return 20 * model.get_input_embeddings().weight.shape[1]


def ia3(model: nn.Module) -> int:
    """Keys and values of every attention, and the inner width of every MLP."""
    total = 0
    for block in find_roles(model).blocks:
        for attention in filter(None, (block.attention, block.cross_attention)):
            paths = (attention.fused,) if attention.fused else (attention.key, attention.value)
            total += sum(width_out(model.get_submodule(path)) for path in paths)
        total += width_in(model.get_submodule(block.mlp.output))
    return total


def width_out(layer: nn.Module) -> int:
    return layer.weight.shape[1 if type(layer).__name__ == "Conv1D" else 0]


def bottleneck(model: nn.Module) -> int:
    """Two adapters in a block and one behind a pooler, each a sixteenth as wide inside."""
    blocks = find_roles(model).blocks
    inside = tuple(f"{block.path}." for block in blocks)
    poolers = [
        width_out(layer)
        for path, layer in linears(model).items()
        if path.startswith(f"{model.base_model_prefix}.pooler") and not path.startswith(inside)
    ]
    widths = [block.width for block in blocks for _ in range(2)] + poolers
    inner = [max(1, width // 16) for width in widths]
    return sum(2 * w * i + w + i for w, i in zip(widths, inner, strict=True))


def p_tuning(model: nn.Module) -> int:
    """20 tokens times the width, and a network of three layers, 512 wide inside."""
    width = prompt(model) // 20
    return prompt(model) + (width * 512 + 512) + (512 * 512 + 512) + (512 * width + width)


def prefix_tuning(model: nn.Module) -> int:
    """16 tokens times the keys and values of every attention."""
    config = model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "d_kv", None) or getattr(config, "head_dim", None)
    width = width or config.hidden_size // config.num_attention_heads
    attentions = sum(1 + bool(block.cross_attention) for block in find_roles(model).blocks)
    return 16 * attentions * 2 * heads * width


def last_layers(model: nn.Module) -> int:
    """One block of two of every stack, and the parts of the base behind the last stack."""
    last: dict[str, int] = {}
    weights = dict(model.base_model.named_parameters())
    for found in filter(None, (re.match(r"(\D*)\.(\d+)\.", path) for path in weights)):
        last[found[1]] = max(last.get(found[1], 0), int(found[2]))
    names = [name for name, _ in model.base_model.named_children()]
    behind = names[names.index([*last][-1].partition(".")[0]) + 1 :]
    inside = tuple(f"{stack}.{number}." for stack, number in last.items())
    return sum(
        p.numel()
        for path, p in weights.items()
        if path.startswith(inside) or path.partition(".")[0] in behind
    )


def vera(model: nn.Module) -> int:
    """PEFT's default here, VeRA of rank 256: a factor for each rank, and for each output."""
    return sum(256 + width_out(layer) for layer in adapted(model))


FORMULAS = {
    "lora": lora,
    "lora_plus": lora,
    "dora": dora,
    "full": full,
    "head": lambda model: 0,
    "bitfit": lambda model: of_base(model, lambda path: path.rpartition(".")[2] == "bias"),
    "norm_tuning": norms,
    "prompt_tuning": prompt,
    "p_tuning": p_tuning,
    "ia3": ia3,
    "bottleneck": bottleneck,
    "prefix_tuning": prefix_tuning,
    "last_layers": last_layers,
    "peft": vera,
    "combined": lambda model: bottleneck(model) + lora(model),
}
"""`{method: formula}`; the head's own weights are counted beside it."""
