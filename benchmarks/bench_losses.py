"""Milliseconds and memory of a language model's loss, forward and backward, by three ways.

Ways:    `full`      logits of every token, in float32, as `labels=` gives them in Transformers
         `labelled`  logits of labelled tokens, all at once, under PyTorch's autograd
         `chunked`   lightune/nn/losses.py
Method:  the head of SmolLM2-135M (576 -> 49,152, frozen) on 4 x 256 hidden states, a share of them
         labelled; 2 warm-up rounds, then `ROUNDS`; each round times every way once, in random
         order. Memory is the peak of resident memory above what was held before, of the first
         call in a process of its own.
Report:  median and quartiles in milliseconds, the ratio to `full`, and megabytes; one JSON a line.
Run:     python benchmarks/bench_losses.py >> benchmarks/results/losses.jsonl
"""

import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from lightune.nn.losses import NO_LABEL, cross_entropy_sum
from lightune.train.memory import peak_rss_mb, reset_peak

BATCH, SEQ, WIDTH, VOCABULARY = 4, 256, 576, 49_152
SHARES = (0.4, 1.0)
ROUNDS = 9


def full(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    logits = F.linear(hidden, weight).float()
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=NO_LABEL)


def labelled(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    known = targets != NO_LABEL
    return F.cross_entropy(F.linear(hidden[known], weight).float(), targets[known])


def chunked(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    known = targets != NO_LABEL
    wanted = targets[known]
    return cross_entropy_sum(hidden[known], weight, wanted) / len(wanted)


WAYS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "full": full,
    "labelled": labelled,
    "chunked": chunked,
}


def case(dtype: torch.dtype, share: float) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hidden = torch.randn(BATCH, SEQ, WIDTH).to(dtype).requires_grad_()
    weight = (torch.randn(VOCABULARY, WIDTH) / WIDTH**0.5).to(dtype)
    targets = torch.randint(VOCABULARY, (BATCH, SEQ))
    targets[:, : round((1 - share) * SEQ)] = NO_LABEL
    return hidden, weight, targets


def step(way: str, inputs: tuple[Tensor, Tensor, Tensor]) -> float:
    begun = time.perf_counter()
    WAYS[way](*inputs).backward()
    inputs[0].grad = None
    return 1e3 * (time.perf_counter() - begun)


def memory_mb(way: str, dtype: str, share: float) -> float:
    """Return the peak of one step, measured in a process of its own."""
    words = [sys.executable, __file__, way, dtype, str(share)]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


def measure_memory(way: str, dtype: str, share: float) -> None:
    inputs = case(getattr(torch, dtype), share)
    torch.mm(inputs[1][:64], inputs[1][:64].T)  # the library's own start-up is not the loss's
    reset_peak()
    before = peak_rss_mb()
    step(way, inputs)
    print(peak_rss_mb() - before)


def main() -> None:
    for dtype in ("float32", "bfloat16"):
        for share in SHARES:
            inputs = case(getattr(torch, dtype), share)
            times: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(2 + ROUNDS):
                for way in random.sample(list(WAYS), len(WAYS)):
                    times[way].append(step(way, inputs))
            whole = statistics.median(times["full"][2:])
            for way, all_ms in times.items():
                low, middle, high = statistics.quantiles(all_ms[2:], n=4)
                row = {
                    "bench": "losses",
                    "way": way,
                    "dtype": dtype,
                    "labelled_share": share,
                    "median_ms": round(middle, 1),
                    "quartiles_ms": [round(low, 1), round(high, 1)],
                    "ratio_to_full": round(middle / whole, 3),
                    "peak_mb": round(memory_mb(way, dtype, share)),
                    "torch": torch.__version__,
                    "threads": torch.get_num_threads(),
                }
                print(json.dumps(row), flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure_memory(sys.argv[1], sys.argv[2], float(sys.argv[3]))
    else:
        main()
