"""A quantised GGUF file, turned once into safetensors that train like any other weights.

How:     Transformers reads and de-quantises the file; the tensors are kept as float16.
Why f16: Q4_1 stores a weight as scale * q + minimum with a float16 scale and minimum, so float16
         keeps it to a relative error of 2e-4 (bfloat16: 1.4e-3), both far below what Q4_1 itself
         lost, in half the space of float32.
Memory:  the model in float32 while it is converted.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from lightune.errors import ModelError
from lightune.models.folder import SINGLE
from lightune.models.quiet import quiet

NOTE = (
    "the weights were de-quantised from a 4-bit file (GGUF Q4_1) and kept as float16: "
    "they differ a little from the original on the hub"
)


def dequantise(gguf: Path, folder: Path) -> None:
    """Write `gguf` as config.json, model.safetensors and tokenizer files into `folder`.

    Raises:
        ModelError: the file is not a GGUF of an architecture that Transformers reads.
    """
    with quiet():
        try:
            model = AutoModelForCausalLM.from_pretrained(
                gguf.parent, gguf_file=gguf.name, dtype=torch.float32, local_files_only=True
            )
            tokenizer = AutoTokenizer.from_pretrained(
                gguf.parent, gguf_file=gguf.name, local_files_only=True
            )
        except (ValueError, RuntimeError, KeyError) as error:
            raise ModelError(
                f"{gguf.name}: cannot be read as a GGUF model", str(error), "fetch it again"
            ) from None
        config = model.config
        # Left in, it would send every later load through the GGUF reader again.
        del config.quantization_config
        config.dtype = torch.float16
        config.architectures = [type(model).__name__]
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        save_file(_once(model.state_dict()), folder / SINGLE, metadata={"format": "pt"})


def _once(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Drop the second name of tied tensors, which safetensors refuses to store."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in state.items():
        if tensor.data_ptr() not in seen:
            seen.add(tensor.data_ptr())
            kept[name] = tensor.to(torch.float16).contiguous()
    return kept
