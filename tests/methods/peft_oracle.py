"""One of our methods and the same in PEFT, side by side on every tiny model."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import HeadId, Manifest, describe_method
from lightune.adapters.save import PEFT_PREFIX, save_adapter
from lightune.methods.base import Attachment, Method
from lightune.methods.beside import train_new_modules
from lightune.models.tiny import ENCODER_DECODERS, FAMILIES
from lightune.types import HeadSpec

LABELS = ("no", "maybe", "yes")
HEAD = HeadSpec("sequence_classification", LABELS)
EVERY = FAMILIES | ENCODER_DECODERS
END = 1  # the encoder–decoders' end token, by which they classify
IDS = torch.tensor([[5, 9, 13, 21, 7, 3, END], [8, 6, 30, 2, 11, 4, END]])


def base(family: str) -> nn.Module:
    return EVERY[family](HEAD, 0)[0]


def outside_the_base(model: nn.Module) -> list[str]:
    """What a checkpoint of the bare base model does not have."""
    parts = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    return [name for name in parts if list(model.get_submodule(name).parameters())]


def move(attachment: Attachment, strength: float = 0.1) -> None:
    """Give every trained tensor another value, as if trained."""
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in attachment.trainable.values():
            parameter.add_(strength * torch.randn_like(parameter))


def logits(model: nn.Module) -> Tensor:
    return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def with_peft(model: nn.Module, config: Any) -> nn.Module:
    """Return PEFT's model on a copy of a plain base."""
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    return peft.get_peft_model(copy.deepcopy(model), config).eval()


def parameters_of(theirs: nn.Module) -> dict[str, nn.Parameter]:
    """Return what PEFT trains, by the names in its file without the prefix."""
    return {
        name.removeprefix(PEFT_PREFIX).replace(".default", ""): p
        for name, p in theirs.named_parameters()
        if p.requires_grad
    }


def in_file(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return `tensors` with PEFT's names in a model turned into those in its file."""
    return {
        name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector"): tensor
        for name, tensor in tensors.items()
    }


def assert_equal(ours: nn.Module, part: Attachment, theirs: nn.Module) -> None:
    """Copy our weights to PEFT's model; compare logits, loss and all gradients."""
    weights = in_file(dict(parameters_of(theirs)))
    mine = part.to_file(part.trainable)
    assert mine.keys() == weights.keys()
    with torch.no_grad():
        for name, tensor in mine.items():
            assert tensor.shape == weights[name].shape
            weights[name].copy_(tensor)
    outputs = logits(ours), logits(theirs)
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    losses = [nn.functional.cross_entropy(out, torch.tensor([0, 2])) for out in outputs]
    torch.testing.assert_close(*losses, rtol=1e-5, atol=1e-6)
    for loss in losses:
        loss.backward()
    gradients = part.to_file({path: p.grad for path, p in part.trainable.items()})
    largest = max(float(p.grad.abs().max()) for p in weights.values())
    for name, tensor in gradients.items():
        torch.testing.assert_close(tensor, weights[name].grad, rtol=1e-3, atol=2e-5 * largest)


def assert_exchanged(folder: Path, family: str, method: Method) -> dict[str, Any]:
    """Save, load with PEFT on a plain base and compare logits; load here and compare all bits.

    Returns:
        The tensors that `load_adapter` filled, by path.
    """
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    ours = base(family)
    beside = train_new_modules(ours, outside_the_base(ours))
    parts = [method.attach(ours), beside]
    for part in parts:
        move(part)
    manifest = Manifest(
        method=describe_method(method), head=HeadId(kind="sequence_classification", labels=LABELS)
    )
    save_adapter(folder, ours, parts, manifest)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        theirs = peft.PeftModel.from_pretrained(base(family), folder).eval()
    assert not [str(w.message) for w in said if "adapter keys" in str(w.message)]
    with torch.no_grad():
        torch.testing.assert_close(logits(theirs), logits(ours), rtol=1e-4, atol=1e-4)
        again = base(family)
        loaded, _ = load_adapter(folder, again, None)
        assert torch.equal(logits(again), logits(ours))
    back = {path: t for part in loaded for path, t in {**part.trainable, **part.constants}.items()}
    for part in parts:
        for path, tensor in {**part.trainable, **part.constants}.items():
            assert torch.equal(back[path], tensor), path
    return back
