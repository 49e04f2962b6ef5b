"""Which name a bottleneck adapter has in the package `adapters`, for each place in a model.

The package adds modules to its own copy of each model; their paths follow from where the copy
adds them, told here by structural roles:

    <module of output layer and norm>.adapters          BERT, RoBERTa, ELECTRA, DeBERTa
    <sub-layer in the block's list>.adapters            T5
    <attention>.attention_adapters.adapters             ALBERT's attention
    <block>.attention_adapters.adapters, …output_…, …cross_attention_…     all others

Not here: reading and writing the folders (`hub_folder.py`, `hub_save.py`).
"""

from torch import nn

from lightune.errors import AdapterError
from lightune.methods.bottleneck import INSIDE, BottleneckAdapter
from lightune.nn.roles import Block, find_roles

FAMILIES = {"bert", "roberta", "electra", "deberta-v2", "distilbert", "albert"}
FAMILIES |= {"gpt2", "llama", "t5", "bart"}
"""`model_type` of the families whose adapters were compared with the package's."""

PARAMETERS = {
    "down": "adapter_down.0.weight",
    "down_bias": "adapter_down.0.bias",
    "up": "adapter_up.weight",
    "up_bias": "adapter_up.bias",
    "scale": "scaling",
}
"""Our parameters of an adapter, and the package's."""


def places(model: nn.Module, method: BottleneckAdapter, name: str) -> dict[str, str]:
    """Return `{path of an adapter in our model: its path in the package}`, blocks only.

    Args:
        model: with or without the method on it.
        name: the adapter's name in the package.
    """
    found: dict[str, str] = {}
    for block in find_roles(model).blocks:
        mlp = block.mlp.output
        if method.placement == "houlsby":
            found[block.attention.output] = _hub(
                model, block, block.attention.output, block.attention.norm, "attention"
            )
            cross = block.cross_attention
            if method.cross_attention and cross:
                found[cross.output] = _hub(
                    model, block, cross.output, cross.norm, "cross_attention"
                )
            ours = mlp
        elif method.placement == "parallel":
            ours = mlp
        else:
            ours = block.path if block.placement != "post" else block.mlp.norm or ""
        found[ours] = _hub(model, block, mlp, block.mlp.norm, "output")
    return {f"{ours}.{INSIDE}": f"{hub}.adapters.{name}" for ours, hub in found.items()}


def _hub(model: nn.Module, block: Block, output: str, norm: str | None, kind: str) -> str:
    """Return the module to which the package adds a sub-layer's adapters."""
    parent = output.rpartition(".")[0]
    inside = output[len(block.path) + 1 :].split(".")
    for depth in range(1, len(inside)):
        above = f"{block.path}.{'.'.join(inside[:depth])}"
        if isinstance(model.get_submodule(above), nn.ModuleList):
            return f"{above}.{inside[depth]}"
    if parent == block.path or norm is None or norm.rpartition(".")[0] != parent:
        return f"{block.path}.{kind}_adapters"
    return f"{parent}.attention_adapters" if parent == block.attention.path else parent


def check_family(model_type: str) -> None:
    """Refuse a family never compared with the package.

    Raises:
        AdapterError: the family is not among `FAMILIES`.
    """
    if model_type not in FAMILIES:
        raise AdapterError(
            f"AdapterHub's format is not known for {model_type} models",
            found=f"families that are: {', '.join(sorted(FAMILIES))}",
            mend="use the package `adapters` for others, or keep the adapter in Lightune's format",
        )
