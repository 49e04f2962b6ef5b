"""Settings of the engine: the recipe's section `train.engine`. No torch.

Nothing here changes what is learned beyond the tolerance stated for each part; the settings exist
so that a part can be forced, or switched off to compare. `auto` takes what was measured to be
fastest on this machine (`lightune doctor` shows it).
"""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from lightune.settings import Settings


class EngineSpec(Settings):
    """How the arithmetic is done."""

    attention: Literal["auto", "native", "matmul", "sdpa", "off"] = "auto"
    """Attention kernel: the one in C (native), plain matrix products (matmul), PyTorch's fused one
    (sdpa), or whatever the model itself would use (off)."""
    batches: Literal["auto", "by_length", "random"] = "auto"
    """Order of the training examples: texts of like length together, which wastes less on
    padding, or wholly random."""
    dropout: Literal["auto", "torch", "off"] = "auto"
    """Random numbers of dropout: drawn cheaply from a pool (auto), PyTorch's own (torch), or no
    dropout at all (off), which does change what is learned."""
    losses: Literal["auto", "full"] = "auto"
    """Language models: logits at labelled tokens only, a chunk at a time (auto), or all of them at
    once, to compare (full)."""
    lowrank: bool = True
    """Whether low-rank layers use their own backward pass instead of PyTorch's autograd."""
    micro_batch: PositiveInt | None = None
    """Examples of a batch computed at once: less memory, the same result; null takes the whole
    batch, and `train.batch_size: auto` sets it where that does not fit."""
    native: Literal["auto", "off"] = "auto"
    """Kernels in C for low-rank products, attention, activations and RMS normalisation, compiled
    once on this machine where it has a C compiler and a processor with the units for them."""
    prefix_cache: Literal["auto", "on", "off"] = "auto"
    """Where the lower blocks are frozen: keep what they give for each text in a file while
    training, so that they run once and not in every epoch. `auto` does so for more than one."""
    prefix_cache_gb: PositiveFloat = 8.0
    """Largest such file in gigabytes; where more would be needed the blocks run in every epoch."""
    threads: PositiveInt | None = None
    """Threads for the arithmetic; null takes one for each core this process may use."""
    token_cache: Literal["auto", "off"] = "auto"
    """Keep tokenised records in the cache folder where tokenising takes a second or more, so that
    the next run on the same records need not wait for it."""
