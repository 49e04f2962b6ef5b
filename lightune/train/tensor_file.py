"""Write tensors to a safetensors file and know its hash, without holding them twice.

Why:        a checkpoint is written while the model trains, where memory is short: the library's
            own writer makes a copy of all tensors first. Here one tensor after the other goes to
            the file and into the hash; it is read by the library.
Format:     eight bytes of length, a JSON header, then the tensors' bytes, as
            https://huggingface.co/docs/safetensors specifies.
Invariants: when `write_tensors` returns, the bytes are on the disk (fsync).
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a new file; return its SHA-256 in hexadecimal.

    Raises:
        OSError: the file exists, or the disk is full.
    """
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        shape = list(tensor.shape)
        header[name] = {
            "dtype": DTYPES[tensor.dtype], "shape": shape, "data_offsets": [begin, end]
        }  # fmt: skip
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("xb") as file:
        for part in (len(text).to_bytes(8, "little"), text):
            file.write(part)
            digest.update(part)
        for tensor in tensors.values():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            raw = flat.view(torch.uint8).numpy().data
            file.write(raw)
            digest.update(raw)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
