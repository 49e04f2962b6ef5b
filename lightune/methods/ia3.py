"""IA3: multiply keys, values and the MLP's inner activations by trained vectors.

Paper:      Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than
            In-Context Learning" (arXiv:2205.05638), section 3.3:

                softmax(Q (l_k * K)^T / sqrt(d_k)) (l_v * V)       in every attention
                (l_ff * gelu(W1 x)) W2                             in every MLP

Start:      every factor is 1: the model starts as the base.
Places:     by structural role, in every block: the key and value projections of self and cross
            attention, and the input of the MLP's last layer (where a gate multiplies the inner
            activation, that product is scaled, which is the same). Where one layer makes queries,
            keys and values at once (GPT-2, GPT-NeoX, Phi-3), its whole output is scaled, as PEFT
            does: there too the queries' factors do much the same as the keys'.
Departs:    for BERT and RoBERTa, PEFT's own defaults also scale the input of the attention's
            output layer, for Gemma and Qwen the queries in place of the keys. Here it is the
            paper's places.
Rate:       3e-3, the paper's; at 1e-2 training collapsed on SST-2.
Cost:       width of the keys + width of the values + inner width of the MLP for each block. Nothing
            after merging: the vectors go into the weights and biases.
Not here:   the layer (`nn/scaled.py`), the roles (`nn/roles.py`).
"""

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field, model_validator
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lightune.errors import MethodError
from lightune.methods.base import Attachment, Method, Packed
from lightune.nn.roles import find_roles
from lightune.nn.scaled import ScaledLinear, Side
from lightune.nn.surgery import Surgery, find_linears, shortest_ends


class IA3(Method):
    """Trained factors on keys, values and inner activations."""

    name: ClassVar[str] = "ia3"
    paper: ClassVar[str] = "Liu et al. 2022, arXiv:2205.05638, section 3.3"
    summary: ClassVar[str] = "trained factors on keys, values and the MLP's inner activations"
    learning_rate: ClassVar[float] = 3e-3

    outputs: list[str] | None = Field(default=None)
    """Layers whose output is scaled, by last names or ends of paths: keys and values of every
    attention (null), or none (`[]`)."""
    inputs: list[str] | None = Field(default=None)
    """Layers whose input is scaled: the last of every MLP (null), or none (`[]`)."""

    @model_validator(mode="after")
    def _some(self) -> "IA3":
        if self.outputs == [] and self.inputs == []:
            raise ValueError("neither outputs nor inputs of any layer are scaled | outputs: null")
        return self

    def attach(self, model: nn.Module) -> Attachment:
        sides = self._sides(model)
        layers = {path: model.get_submodule(path) for path in sides}
        config: dict[str, Any] = {
            "peft_type": "IA3",
            "target_modules": shortest_ends(model, sides),
            "feedforward_modules": shortest_ends(model, [p for p in sides if sides[p] == "input"]),
            "fan_in_fan_out": any(isinstance(layer, Conv1D) for layer in layers.values()),
            "init_ia3_weights": True,
        }
        surgery = Surgery(model)
        trainable: dict[str, nn.Parameter] = {}
        packed: dict[str, Packed] = {}
        deltas: dict[str, Callable[[], Tensor]] = {}
        for path, side in sides.items():
            wrapper = ScaledLinear(layers[path], side)
            surgery.replace(path, wrapper)
            trainable[f"{path}.factors"] = wrapper.factors
            to_peft = _as_row if side == "input" else _as_column
            packed[f"{path}.ia3_l"] = Packed((f"{path}.factors",), to_peft, _as_vector)
            deltas |= _deltas(path, wrapper)
        return Attachment(surgery, trainable, "peft", deltas, config, packed=packed)

    def _sides(self, model: nn.Module) -> dict[str, Side]:
        """Return which side of which layer is scaled, in the model's order.

        Raises:
            TargetError: a name matches no linear layer.
            MethodError: the model has no such structure, or a layer is named for both sides.
        """
        if self.outputs is None or self.inputs is None:
            outputs, inputs = _places(model)
        if self.outputs is not None:
            outputs = list(find_linears(model, self.outputs))
        if self.inputs is not None:
            inputs = list(find_linears(model, self.inputs))
        both = sorted(set(outputs) & set(inputs))
        if both:
            raise MethodError(
                "method: `outputs` and `inputs` name the same layers",
                found=", ".join(both[:5]),
                mend="name each layer once; PEFT's files hold one vector for each",
            )
        order = [path for path, _ in model.named_modules() if path in {*outputs, *inputs}]
        return {path: "input" if path in inputs else "output" for path in order}


def _places(model: nn.Module) -> tuple[list[str], list[str]]:
    """Return the paths of the paper's layers: scaled by their outputs, and by their inputs."""
    outputs: list[str] = []
    inputs: list[str] = []
    for block in find_roles(model).blocks:
        for attention in (block.attention, block.cross_attention):
            if attention is not None:
                found = (attention.key, attention.value, attention.fused)
                outputs += [path for path in found if path is not None]
        inputs.append(block.mlp.output)
    return outputs, inputs


def _deltas(path: str, wrapper: ScaledLinear) -> dict[str, Callable[[], Tensor]]:
    """Return the changes of weight and bias, each in its own shape."""
    turned = isinstance(wrapper.base, Conv1D)
    deltas = {f"{path}.weight": (lambda: wrapper.delta().T) if turned else wrapper.delta}
    if wrapper.side == "output" and wrapper.bias is not None:
        deltas[f"{path}.bias"] = wrapper.bias_delta
    return deltas


def _as_row(vector: Tensor) -> Tensor:
    return vector.unsqueeze(0)


def _as_column(vector: Tensor) -> Tensor:
    return vector.unsqueeze(1)


def _as_vector(tensor: Tensor) -> tuple[Tensor]:
    return (tensor.flatten(),)
