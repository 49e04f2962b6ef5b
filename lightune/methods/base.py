"""What a fine-tuning method is, and what it leaves in a model.

To add one, write `methods/<name>.py` (one `Method` subclass) and `tests/methods/test_<name>.py`.
Nothing else is edited: this folder is scanned, installed packages add theirs by the entry point
`lightune.methods`, and `tests/methods/test_contract.py` runs on every class found.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from lightune import registry
from lightune.errors import MethodError
from lightune.nn.surgery import Surgery
from lightune.settings import Settings

Layout = Literal["peft", "model", "tensors"]
"""How an attachment is saved: PEFT's folder, a whole Hugging Face model, or the changed tensors."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A tensor of PEFT's file that is not simply one of the attachment's.

    Attributes:
        paths: the attachment's tensors that it holds, trained or constant.
        pack: from those tensors, in that order, to the file's.
        unpack: the way back, bit for bit.
    """

    paths: tuple[str, ...]
    pack: Callable[..., Tensor]
    unpack: Callable[[Tensor], Sequence[Tensor]]


def made_by(network: nn.Module, path: str) -> Packed:
    """Return how what a network makes is saved in place of its own weights, for good.

    Args:
        network: at `path` in the model; `network()` gives the tensor.
    """
    inside = [name for name, _ in network.named_parameters()]

    def make(*tensors: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.func.functional_call(network, dict(zip(inside, tensors, strict=True)), ())

    def unmake(tensor: Tensor) -> Sequence[Tensor]:
        raise MethodError(
            "what a network has made does not tell the network",
            found=f"weights of {path}",
            mend="load it with the method's `loaded()`",
        )

    return Packed(tuple(f"{path}.{name}" for name in inside), make, unmake)


class Attachment:
    """What `Method.attach` left in a model: its trainable tensors, and the way back.

    Args:
        surgery: the changes made to the model; `detach()` undoes them.
        trainable: `{path in the model: parameter}` of every tensor this attachment trains.
        deltas: `{path of a base weight: function that returns its change}`, where the method's
            algebra allows merging.
        peft_config: the part of PEFT's `adapter_config.json` that describes this attachment
            (`peft_type`, `r`, `target_modules` …); None where PEFT has no such method.
        peft_names: `{path in the model: name in PEFT's file}`, without `base_model.model.`.
        modules: paths of modules trained whole as copies (a new head), PEFT's `modules_to_save`.
        constants: `{path in the model: tensor}` of what the method made, does not train, and needs
            to be the same again (a frozen start product): saved with the trained tensors.
        packed: `{name in PEFT's file: how it is made}`; for whatever `peft_names` cannot say.
    """

    def __init__(
        self,
        surgery: Surgery,
        trainable: Mapping[str, nn.Parameter],
        layout: Layout,
        deltas: Mapping[str, Callable[[], Tensor]] | None = None,
        peft_config: Mapping[str, Any] | None = None,
        peft_names: Mapping[str, str] | None = None,
        modules: Iterable[str] = (),
        constants: Mapping[str, Tensor] | None = None,
        packed: Mapping[str, Packed] | None = None,
    ) -> None:
        self.surgery = surgery
        self.trainable = dict(trainable)
        self.layout = layout
        self.deltas = dict(deltas or {})
        self.peft_config = dict(peft_config) if peft_config else None
        self.peft_names = dict(peft_names or {})
        self.modules = tuple(modules)
        self.constants = dict(constants or {})
        self.packed = dict(packed or {})

    def to_file(self, trained: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return `{name in the file: tensor}` of all that is saved.

        Args:
            trained: values of the trained tensors by path.
        """
        values = {**self.constants, **trained}
        names = self.peft_names if self.layout == "peft" else {}
        inside = {path for packed in self.packed.values() for path in packed.paths}
        named = {names.get(p, p): t for p, t in values.items() if p not in inside}
        for name, packed in self.packed.items():
            named[name] = packed.pack(*(values[path] for path in packed.paths))
        return named

    def from_file(self, name: str, tensor: Tensor) -> dict[str, Tensor]:
        """Return `{path in the model: tensor}` of what one tensor of the file holds."""
        if name in self.packed:
            packed = self.packed[name]
            return dict(zip(packed.paths, packed.unpack(tensor), strict=True))
        paths = {new: old for old, new in self.peft_names.items()} if self.layout == "peft" else {}
        return {paths.get(name, name): tensor}

    def detach(self) -> None:
        """Restore the model bit for bit: tensors, `requires_grad`, hooks, config, train mode."""
        self.surgery.undo()

    def delta(self, path: str) -> Tensor:
        """Return the change of the base weight at `path`, in that weight's own shape.

        Raises:
            KeyError: this attachment does not change that weight by a sum.
        """
        return self.deltas[path]()


class Method(Settings, ABC):
    """The settings of one method, and how it enters a model. Subclasses are final."""

    name: ClassVar[str]
    """The word used in recipes, on the command line and in adapter files."""
    paper: ClassVar[str]
    """Authors, year, arXiv id and the equation implemented."""
    summary: ClassVar[str]
    """One line for `lightune methods`."""
    identity_at_init: ClassVar[bool] = True
    """Attaching leaves the outputs as they were."""
    learning_rate: ClassVar[float]
    """Peak rate used when the recipe names none; docs/defaults.md says how it was chosen."""

    @abstractmethod
    def attach(self, model: nn.Module) -> Attachment:
        """Add the trainable weights to `model`, in place.

        `model` arrives frozen, but for the modules trained whole beside the method (a new head).

        Random starts are drawn from torch's global generator, which the caller seeds.

        Raises:
            MethodError: this model has no place for the method; the message says why.
        """

    def with_tokenizer(self, tokenizer: Any) -> Self:
        """Return the method, able to read words where its settings have any; else itself."""
        return self

    def loaded(self) -> Self:
        """Return the method as a saved adapter of it is attached: without what only gives a start,
        or only helps training, and is not saved."""
        return self

    def room(self, model: nn.Module) -> int:
        """Return how many of the positions that a text could have the method takes."""
        return 0

    def on_step(self, attachment: Attachment, step: int) -> None:
        """Do what the method does after every step of the optimiser (a budget divided anew …).

        Args:
            attachment: what `attach` gave.
            step: steps done, from 1.
        """
        return

    def param_groups(self, attachment: Attachment, learning_rate: float) -> list[dict[str, Any]]:
        """Return the optimiser's groups; one group at one rate unless a method says otherwise."""
        return [{"params": list(attachment.trainable.values()), "lr": learning_rate}]

    def rate_beside(self, learning_rate: float) -> float:
        """Return the peak rate of what is trained whole beside the method (a new head)."""
        return learning_rate


BASE = Method


def methods() -> dict[str, type[Method]]:
    """Return every method by name: this folder's, then those of installed packages."""
    return registry.scan("lightune.methods")


def train_copies(
    model: nn.Module, paths: Iterable[str], layout: Layout, modules: Iterable[str] = ()
) -> Attachment:
    """Train existing weights without writing to them: swap in float32 copies of `paths`.

    Used by methods that train what is already there (`full`, `head` …) and for a new head beside
    any method. Parameters that share storage (tied weights) share the copy; what is trained
    already (a new head, when a method that names it comes) is left as it is.

    Args:
        model: the base model, frozen.
        paths: parameter paths, such as `classifier.weight`.
        layout: how the result is saved.
        modules: the modules that these parameters make up, where they are whole modules.
    """
    surgery = Surgery(model)
    frozen = [path for path in paths if not model.get_parameter(path).requires_grad]
    trainable = surgery.swap_in_copies(frozen)
    return Attachment(surgery, trainable, layout, modules=modules)
