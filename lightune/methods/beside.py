"""Which whole modules are trained beside the method: the one place that decides it.

Rule:       the modules that the checkpoint did not have (random until trained: a new head, a
            missing pooler), and the task's output layer even when the checkpoint had it, as PEFT
            does for sequence classification. Decided from what was loaded and from the model's
            structure, never from the sound of a name.
Invariants: nothing is trained twice: with `full`, every weight is trained already and nothing is
            added.
"""

from collections.abc import Iterable

from torch import nn

from lightune.errors import MethodError, nearest
from lightune.methods.base import Attachment, train_copies
from lightune.nn.lowrank import LowRankLinear
from lightune.nn.surgery import head_path


def modules_beside(model: nn.Module, new_modules: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of the modules to train whole, in the model's order, none inside another.

    Raises:
        MethodError: the model has no such module.
    """
    every = [path for path, _ in model.named_modules()]
    wanted = set(new_modules)
    for path in sorted(wanted - set(every)):
        near = nearest(path, every)
        raise MethodError(
            f"{type(model).__name__} has no module {path!r} to train beside the method",
            found=f"parts: {', '.join(name for name, _ in model.named_children())}",
            mend=f"did you mean {near!r}?" if near else "name a module that exists",
        )
    head = head_path(model)
    if head is not None:
        wanted.add(head)
    outer = tuple(f"{path}." for path in wanted)
    return tuple(path for path in every if path in wanted and not path.startswith(outer))


def train_new_modules(model: nn.Module, new_modules: Iterable[str]) -> Attachment:
    """Make the modules beside the method trainable, as float32 copies.

    Call it before the method's `attach`, which then leaves them alone.

    Args:
        model: the base model, frozen.
        new_modules: paths of the modules that the checkpoint did not have.

    Raises:
        MethodError: a module is missing, or the method has put its own layers inside it.
    """
    paths: list[str] = []
    trained: list[str] = []
    for module_path in modules_beside(model, new_modules):
        for inner_path, inner in model.get_submodule(module_path).named_modules():
            if isinstance(inner, LowRankLinear):
                where = f"{module_path}.{inner_path}".rstrip(".")
                raise MethodError(
                    f"method.targets: {where!r} is in a part that is trained whole",
                    found=f"trained whole beside every method: {module_path}",
                    mend=f"leave {where.rpartition('.')[2]!r} out of `targets`",
                )
        frozen = [
            f"{module_path}.{name}"
            for name, p in model.get_submodule(module_path).named_parameters()
            if p.is_floating_point() and not p.requires_grad
        ]
        if frozen:
            trained.append(module_path)
            paths.extend(frozen)
    return train_copies(model, paths, "tensors", trained)
