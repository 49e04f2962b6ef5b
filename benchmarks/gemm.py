"""What this machine's matrix products can do at best: the ceiling that training is held against.

Method:  products of the sizes of a small encoder's step (M 512 to 2048, K and N 384 to 3072), each
         timed several times after a warm-up; the ceiling is the best rate of any size, since other
         work on the machine only ever slows one down.
Units:   GFLOP/s; a product of [M, K] and [K, N] counts 2 * M * K * N.
Not here: the share that a training reaches (`figures.py`).
"""

import time

SIZES = ((512, 384, 1536), (1024, 768, 3072), (2048, 1536, 384))
"""(M, K, N)."""


def ceiling(rounds: int = 8) -> dict[str, float]:
    """Return the best rate by number format, with the threads that torch has now."""
    import torch

    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        best = 0.0
        for m, k, n in SIZES:
            x, weight = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
            for _ in range(rounds):
                begun = time.perf_counter()
                torch.nn.functional.linear(x, weight)
                best = max(best, 2 * m * k * n / (time.perf_counter() - begun) / 1e9)
        rates[str(dtype).removeprefix("torch.")] = round(best, 1)
    return rates
