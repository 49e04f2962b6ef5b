"""What is fastest on this machine: number format, attention kernel, threads. Measured, not assumed.

Why:        bfloat16 is four times as fast as float32 on a CPU with the units for it and many times
            slower on one without; PyTorch's fused attention wins in float32 and loses in bfloat16.
How:        a few products and attention steps are timed once (under two seconds), and the result
            is kept for this processor, core count and torch version. On a GPU nothing is timed:
            bfloat16 where the card has it, and the fused attention.
Invariants: the plan is recorded in the run and used again for its evaluation and prediction, so
            that one run gives one set of numbers.
Not here:   applying a plan to a model (`prepare.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from lightune.engine.spec import EngineSpec
from lightune.errors import ConfigError, LightuneError
from lightune.models.store import home
from lightune.nn import attention
from lightune.nn import native as loading
from lightune.nn.native_attention import NativeAttention
from lightune.runs.environment import cpu_model, usable_cores
from lightune.runs.files import write_json
from lightune.settings import Settings

Dtype = Literal["float32", "bfloat16", "float16"]
Attention = Literal["lightune_native", "lightune", "sdpa", "off"]
Dropout = Literal["pooled", "torch", "off"]
PRECISIONS: dict[str, Dtype] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}

BFLOAT16_MUST_WIN_BY = 1.3
"""How much faster bfloat16 products must be before the precision is given up for the speed."""


class Plan(Settings):
    """How the arithmetic of one run is done."""

    device: str = "cpu"
    """`cpu`, `cuda` or `mps`."""
    dtype: Dtype = "float32"
    """Format of frozen weights and activations; trained weights are always float32."""
    attention: Attention = "sdpa"
    """`lightune_native` is the kernel in C and `lightune` plain products (both nn/attention.py),
    `sdpa` PyTorch's; `off` leaves the model's own."""
    dropout: Dropout = "torch"
    """Where dropout's random numbers come from."""
    lowrank: bool = True
    """Whether low-rank layers use their own backward pass."""
    native: bool = False
    """Whether low-rank products and GELU are computed by the kernels in C (nn/native.py)."""
    threads: int = 1
    """Threads of the arithmetic."""
    measured: dict[str, float] = {}
    """Milliseconds of what was timed to decide."""

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


Measure = Callable[[str], float]
"""Seconds that one of the `probes` takes."""


def machine_plan(
    precision: str = "auto",
    engine: EngineSpec | None = None,
    device: str | None = None,
    measure: Measure | None = None,
    cache: Path | None = None,
    kernels: bool | None = None,
) -> Plan:
    """Return the plan for this machine.

    Args:
        precision: `auto`, `fp32`, `bf16` or `fp16`, as the recipe says.
        engine: parts that are forced or switched off.
        device: None takes a GPU when there is one.
        measure: stands in for the timing, in tests.
        cache: folder for the measurements; None takes the user's cache folder.
        kernels: whether the kernels in C can be had; None tries to build them.

    Raises:
        ConfigError: `fp16` on a CPU, whose float16 range overflows without a gradient scaler; or
            the kernel in C is asked for where it cannot be had.
    """
    engine = engine or EngineSpec()
    device = device or default_device()
    threads = engine.threads or allowed_threads()
    if precision == "fp16" and device != "cuda":
        raise ConfigError(
            "train.precision: fp16 needs a CUDA GPU",
            found=f"device {device}",
            mend="`precision: auto`, or `bf16`",
        )
    kernel: Attention = "sdpa"
    dropout: Dropout = "torch"
    timings: dict[str, float] = {}
    native = False
    if device == "cpu":
        native = _has_kernels(engine, cache) if kernels is None else kernels
        timings = _timings(measure, threads, cache, probes(native))
        dtype = PRECISIONS.get(precision) or _fastest_dtype(timings)
        kernel = _fastest_attention(timings, dtype)
        dropout = "pooled"
    else:
        dtype = PRECISIONS.get(precision) or _device_dtype(device)
    native = native and dtype == "bfloat16"
    if engine.attention == "native" and not native:
        raise ConfigError(
            "train.engine.attention: there is no native attention here",
            found=loading.missing() or f"native: {engine.native}, number format {dtype}",
            mend="`attention: auto`",
        )
    forced: dict[str, Attention] = {
        "native": "lightune_native", "matmul": "lightune", "sdpa": "sdpa", "off": "off"
    }  # fmt: skip
    return Plan(
        device=device,
        dtype=dtype,
        attention=forced.get(engine.attention, kernel),
        dropout=dropout if engine.dropout == "auto" else engine.dropout,
        lowrank=engine.lowrank,
        native=native,
        threads=threads,
        measured={name: round(1e3 * seconds, 4) for name, seconds in timings.items()},
    )


def default_device() -> str:
    """Return `cuda`, `mps` or `cpu`, the first that is there."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def allowed_threads() -> int:
    """Return how many threads the arithmetic may use: the cores, or less where the environment
    says so, as joblib's workers do."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(usable_cores(), int(limit)) if limit.isdigit() and int(limit) else usable_cores()


@contextlib.contextmanager
def threads_of(plan: Plan) -> Iterator[None]:
    """Do something with a plan's threads, at most those there are; then the caller's again."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(plan.threads, usable_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device_dtype(device: str) -> Dtype:
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "float32"


def _fastest_dtype(timings: dict[str, float]) -> Dtype:
    faster = timings["product float32"] / timings["product bfloat16"]
    return "bfloat16" if faster >= BFLOAT16_MUST_WIN_BY else "float32"


def _fastest_attention(timings: dict[str, float], dtype: Dtype) -> Attention:
    def seconds(kernel: str) -> float:
        """Infinite where the kernel was not timed: there is none for this format."""
        names = (f"{kernel} {dtype} {length}" for length in ATTENTION_LENGTHS)
        return sum(timings.get(name, math.inf) for name in names)

    candidates: dict[Attention, str] = {
        "sdpa": "fused", "lightune": "plain", "lightune_native": "native"
    }  # fmt: skip
    return min(candidates, key=lambda name: seconds(candidates[name]))


def _has_kernels(engine: EngineSpec, cache: Path | None) -> bool:
    return engine.native != "off" and loading.load(cache or home()) is not None


# What is timed. Sizes are those of a small encoder's step: large enough to fill the cores.

ATTENTION_LENGTHS = (32, 128)


def probes(native: bool) -> tuple[str, ...]:
    """Return what is timed, with the kernels in C or without."""
    kinds = [(kernel, dtype) for kernel in ("plain", "fused") for dtype in ("float32", "bfloat16")]
    if native:
        kinds.append(("native", "bfloat16"))
    products = [f"product {dtype}" for dtype in ("float32", "bfloat16")]
    return (*products, *(f"{k} {d} {length}" for k, d in kinds for length in ATTENTION_LENGTHS))


def measure_here(probe: str) -> float:
    """Return the seconds of one probe on this machine."""
    kind, dtype_name, *length = probe.split()
    dtype = getattr(torch, dtype_name)
    generator = torch.Generator().manual_seed(0)
    if kind == "product":
        x = torch.randn(512, 384, generator=generator).to(dtype)
        weight = torch.randn(1536, 384, generator=generator).to(dtype)
        return _fastest(lambda: nn.functional.linear(x, weight))
    shape = (2048 // int(length[0]), 12, int(length[0]), 32)
    q, k, v = (torch.randn(shape, generator=generator).to(dtype).requires_grad_() for _ in range(3))

    def plain() -> torch.Tensor:
        return attention.PlainAttention.apply(q, k, v, None, 0.2, None)

    def fused() -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(q, k, v, scale=0.2)

    def native() -> torch.Tensor:
        return NativeAttention.apply(q, k, v, None, 0.2, None, None)

    run = {"plain": plain, "fused": fused, "native": native}[kind]
    return _fastest(lambda: run().sum().backward())


def _fastest(step: Callable[[], object], rounds: int = 7) -> float:
    """Return the shortest time of some rounds: other work on the machine only ever adds to it."""
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _timings(
    measure: Measure | None, threads: int, cache: Path | None, names: tuple[str, ...]
) -> dict[str, float]:
    if measure is not None:
        return {probe: measure(probe) for probe in names}
    name = f"{platform.machine()} {cpu_model()} {threads} {torch.__version__} {names}"
    key = hashlib.sha256(name.encode()).hexdigest()[:16]
    file = (cache or home()) / f"plan-{key}.json"
    kept = _read(file, names)
    if kept is not None:
        return kept
    with threads_of(Plan(threads=threads)):
        timings = {probe: measure_here(probe) for probe in names}
    _write(file, timings)
    return timings


def _read(file: Path, names: tuple[str, ...]) -> dict[str, float] | None:
    """Return kept timings, or None when there are none or the file is not ours to trust."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(values, dict) or set(values) != set(names):
        return None
    if not all(isinstance(v, float) and v > 0 for v in values.values()):
        return None
    return values


def _write(file: Path, timings: dict[str, float]) -> None:
    """Keep the timings; a folder that cannot be written only costs the measuring again."""
    with contextlib.suppress(OSError, LightuneError):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, timings)
