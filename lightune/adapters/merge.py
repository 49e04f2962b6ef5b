"""The model's state with the methods' changes inside: what merging gives, and what `full` saves.

Invariants: the model is not touched; changes are added in float32; the names are those of the
            model without any method, so any library can load the result.
Errors:     `AdapterError` when a method's change is no change of weights (a bottleneck, a prompt):
            it would be lost; and when a changed weight is tied to another (a LoRA on a language
            model's output layer that shares the embedding), unless `untie` is given.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from lightune.errors import AdapterError
from lightune.methods.base import Attachment

Tensors = Mapping[str, Tensor]


def masters(attachments: Sequence[Attachment], tensors: Tensors | None = None) -> dict[str, Tensor]:
    """Return `{path: tensor}` of everything trained, without gradient.

    Args:
        attachments: in the order in which they were attached.
        tensors: values to take in place of the attachments' parameters, all of them or some; a
            training in low precision passes its float32 masters.
    """
    own = {path: p for part in attachments for path, p in part.trainable.items()}
    return {path: (tensors or {}).get(path, p).detach() for path, p in own.items()}


def merged_state(
    model: nn.Module,
    attachments: Sequence[Attachment],
    tensors: Tensors | None = None,
    untie: bool = False,
) -> dict[str, Tensor]:
    """Return the state dict of the model as if trained so, under the names of the plain model.

    Unchanged tensors are those of the model itself, not copies. A sum's `delta` reads the
    attachment's own parameters.

    Args:
        model: with the attachments on it.
        attachments: in the order in which they were attached.
        tensors: see `masters`.
        untie: give a changed weight that is tied to others a tensor of its own; whoever loads the
            result must then not tie them again.

    Raises:
        AdapterError: a method's change cannot be written into weights, or a weight that it
            changes by a sum is tied to another.
    """
    current = dict(model.state_dict(keep_vars=True))
    # By identity, because a trained copy can stand at several places (tied weights), and inside a
    # layer that a method wraps.
    trained = {
        id(current[path]): master
        for path, master in masters(attachments, tensors).items()
        if path in current
    }
    wrapped: dict[str, nn.Module] = {}
    for part in attachments:
        for path, original in part.surgery.replaced.items():
            wrapped.setdefault(path, original)
    inside = tuple(f"{path}." for path in wrapped)
    state = {name: value for name, value in current.items() if not name.startswith(inside)}
    for path, original in wrapped.items():
        state.update(original.state_dict(prefix=f"{path}.", keep_vars=True))

    _check_whole(attachments)
    holders = Counter(id(value) for value in state.values())
    for name in () if untie else {name for part in attachments for name in part.deltas}:
        if holders[id(state[name])] > 1:
            tied = [other for other in state if state[other] is state[name] and other != name]
            raise AdapterError(
                f"{name} cannot be merged: it is tied to another weight, which would change too",
                found=f"tied to {', '.join(tied)}",
                mend="merge with `untie`, which gives each its own tensor; or use the adapter "
                "unmerged",
            )
    merged = {name: trained.get(id(value), value.detach()) for name, value in state.items()}
    for part in attachments:
        for name in part.deltas:
            merged[name] = merged[name].float() + part.delta(name).detach()
    return merged


def _check_whole(attachments: Sequence[Attachment]) -> None:
    """Refuse an attachment some of whose weights would be lost.

    Raises:
        AdapterError: trained tensors neither stand in for the base's own, nor make up any sum.
    """
    for part in attachments:
        lost = [path for path, p in part.trainable.items() if id(p) not in part.surgery.copied]
        if lost and not part.deltas:
            raise AdapterError(
                "this method cannot be merged: it changes what flows through the layers, not "
                "their weights",
                found=f"{len(lost)} trained tensors without a place in the plain model: {lost[0]}"
                + (" …" if len(lost) > 1 else ""),
                mend="use the adapter unmerged; `lightune methods` says which methods merge",
            )


def without_aliases(state: Tensors) -> dict[str, Tensor]:
    """Return `state` with each tied tensor under the first of its names only."""
    seen: set[tuple[int, tuple[int, ...], tuple[int, ...]]] = set()
    kept: dict[str, Tensor] = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        kept[name] = tensor
    return kept
