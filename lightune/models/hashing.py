"""The fingerprint of a base model's tensors: what binds an adapter to the base it trained on."""

import hashlib
from collections.abc import Iterable

import torch
from torch import nn


def base_hash(model: nn.Module, leave_out: Iterable[str] = ()) -> str:
    """Return the SHA-256 over name, dtype, shape and bytes of every tensor, in order of names.

    Args:
        model: as `load` returned it: nothing attached, no other dtype.
        leave_out: module paths whose tensors do not count: `Base.new_modules`.
    """
    skipped = tuple(f"{path}." for path in leave_out)
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(skipped):
            continue
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(memoryview(data.numpy()))
    return digest.hexdigest()
