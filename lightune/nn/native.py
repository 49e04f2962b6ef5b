"""Kernels in C for what a CPU library does badly: built on this machine, checked, then used.

Why:        beside the large products, a small model's training step spends half its time on
            low-rank products, short rows of attention, activations and normalisation. `csrc/`
            computes each in one pass (benchmarks/bench_parts.py measures them on and off).
How:        the machine's own C compiler makes a library of them once, in a second or two; it is
            kept in the cache folder, named by the hash of sources, flags and compiler. They use
            the OpenMP runtime that PyTorch has loaded, with its threads.
Needs:      Linux on x86 with AVX-512 BF16 units, and a C compiler (`cc`, or what CC names).
Invariants: nothing is used whose results were not compared with PyTorch's on this machine first.
Errors:     none: where the kernels cannot be had, `missing` says why, and PyTorch's operations do
            the work.
Not here:   whether they are to be used (`engine/plan.py`), their autograd (`lowrank.py`,
            `native_attention.py`, `gelu.py`, `gate.py`, `rms_norm.py`).
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from ctypes import c_float, c_long, c_void_p
from pathlib import Path

import torch
from torch import Tensor, nn

SOURCES = Path(__file__).parent / "csrc"
FLAGS = (
    "-std=gnu11", "-O3", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16",
    "-mfma", "-fopenmp", "-fno-math-errno", "-fPIC",
)  # fmt: skip
NEEDED_UNITS = {"avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512_bf16"}
BUILD_SECONDS = 120
"""A compiler that takes longer is given up."""

TOLERANCE = 0.02
"""Largest difference from PyTorch in float64, relative to the largest element: bfloat16 has eight
bits."""


class View(ctypes.Structure):
    """`View` of csrc/attention.c."""

    _fields_ = [("start", c_void_p), ("batch", c_long), ("head", c_long), ("row", c_long)]


class AttentionArguments(ctypes.Structure):
    """`Attention` of csrc/attention.c."""

    _fields_ = [
        ("q", View), ("k", View), ("v", View), ("grad", View),
        ("mask", c_void_p), ("mask_batch", c_long), ("mask_head", c_long), ("mask_row", c_long),
        ("mask_float", c_long), ("drop", c_void_p), ("drop_starts", c_void_p),
        ("out", c_void_p), ("grad_q", c_void_p), ("grad_k", c_void_p), ("grad_v", c_void_p),
        ("stats", c_void_p), ("batch", c_long), ("heads", c_long), ("key_heads", c_long),
        ("queries", c_long), ("keys", c_long), ("width", c_long), ("scale", c_float),
    ]  # fmt: skip


class Kernels:
    """The functions of one library. Tensors are on the CPU and as each method says."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.lowrank_forward.argtypes = [c_void_p] * 6 + [c_float] + [c_long] * 4
        library.lowrank_backward.argtypes = [c_void_p] * 8 + [c_float] + [c_long] * 4
        library.gelu_forward.argtypes = [c_void_p] * 2 + [c_long]
        library.gelu_backward.argtypes = [c_void_p] * 3 + [c_long]
        library.gate_forward.argtypes = [c_void_p] * 3 + [c_long]
        library.gate_backward.argtypes = [c_void_p] * 5 + [c_long]
        library.rms_norm_forward.argtypes = [c_void_p] * 4 + [c_float] + [c_long] * 2
        library.rms_norm_backward.argtypes = [c_void_p] * 5 + [c_long] * 2
        for name in ("attention_forward", "attention_backward"):
            getattr(library, name).argtypes = [ctypes.POINTER(AttentionArguments)]
        library.attention_arguments.restype = c_long
        if library.attention_arguments() != ctypes.sizeof(AttentionArguments):
            raise OSError("the kernels' sources are not those of this version")

    def lowrank_forward(
        self, x: Tensor, A: Tensor, B: Tensor, bias: Tensor | None, y: Tensor, scale: float
    ) -> Tensor:
        """Add `bias + scale x A^T B^T` to y in place; return x A^T, `[rows, rank]` in float32.

        Args:
            x: `[rows, in]`, bfloat16, contiguous; `in` and `out` are multiples of 32.
            A, B: `[rank, in]` and `[out, rank]`, float32, contiguous.
            bias: `[out]`, bfloat16, contiguous.
            y: `[rows, out]`, bfloat16, contiguous.
        """
        (rows, width_in), (width_out, rank) = x.shape, B.shape
        h = torch.empty(rows, rank)
        self._library.lowrank_forward(
            x.data_ptr(), A.data_ptr(), B.data_ptr(), None if bias is None else bias.data_ptr(),
            y.data_ptr(), h.data_ptr(), scale, rows, width_in, width_out, rank,
        )  # fmt: skip
        return h

    def lowrank_backward(
        self, grad: Tensor, x: Tensor, A: Tensor, B: Tensor, h: Tensor, grad_x: Tensor | None,
        scale: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return the gradients of A and B; add the product's gradient to `grad_x` in place."""
        (rows, width_in), (width_out, rank) = x.shape, B.shape
        grad_A, turned = torch.empty(rank, width_in), torch.empty(rank, width_out)
        self._library.lowrank_backward(
            grad.data_ptr(), x.data_ptr(), A.data_ptr(), B.data_ptr(), h.data_ptr(),
            None if grad_x is None else grad_x.data_ptr(), grad_A.data_ptr(), turned.data_ptr(),
            scale, rows, width_in, width_out, rank,
        )  # fmt: skip
        return grad_A, turned.T

    def gelu(self, x: Tensor) -> Tensor:
        """Return GELU of x: bfloat16, contiguous, a multiple of 16 elements."""
        y = torch.empty_like(x)
        self._library.gelu_forward(x.data_ptr(), y.data_ptr(), x.numel())
        return y

    def gelu_backward(self, grad: Tensor, x: Tensor) -> Tensor:
        """Return the gradient of x."""
        grad_x = torch.empty_like(x)
        self._library.gelu_backward(grad.data_ptr(), x.data_ptr(), grad_x.data_ptr(), x.numel())
        return grad_x

    def gate(self, g: Tensor, u: Tensor) -> Tensor:
        """Return silu(g) u: bfloat16, contiguous, a multiple of 16 elements."""
        y = torch.empty_like(g)
        self._library.gate_forward(g.data_ptr(), u.data_ptr(), y.data_ptr(), g.numel())
        return y

    def gate_backward(self, grad: Tensor, g: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of g and u."""
        grad_g, grad_u = torch.empty_like(g), torch.empty_like(u)
        places = (t.data_ptr() for t in (grad, g, u, grad_g, grad_u))
        self._library.gate_backward(*places, g.numel())
        return grad_g, grad_u

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """Return x normalised, and what each row was scaled by in float32.

        Args:
            x: `[..., width]`, bfloat16, contiguous; `width` is a multiple of 16.
            weight: `[width]`, bfloat16, contiguous.
        """
        rows, width = x.numel() // x.shape[-1], x.shape[-1]
        y, scales = torch.empty_like(x), torch.empty(rows)
        places = (t.data_ptr() for t in (x, weight, y, scales))
        self._library.rms_norm_forward(*places, eps, rows, width)
        return y, scales

    def rms_norm_backward(self, grad: Tensor, x: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
        """Return the gradient of x."""
        grad_x = torch.empty_like(x)
        places = (t.data_ptr() for t in (grad, x, weight, scales, grad_x))
        self._library.rms_norm_backward(*places, len(scales), x.shape[-1])
        return grad_x

    def attention(self, arguments: AttentionArguments) -> None:
        """Fill `out` and `stats`."""
        self._library.attention_forward(ctypes.byref(arguments))

    def attention_backward(self, arguments: AttentionArguments) -> None:
        """Fill `grad_q`, `grad_k` and `grad_v`."""
        self._library.attention_backward(ctypes.byref(arguments))


_kernels: Kernels | None = None
_missing: str | None = "not asked for yet"


def load(cache: Path) -> Kernels | None:
    """Return the kernels, built into the folder `cache` if need be; None where there are none."""
    global _kernels, _missing
    if _kernels is None:
        _missing = _unfit()
        if _missing is None:
            try:
                candidate = Kernels(_opened(cache))
                _missing = _wrong(candidate)
            except (OSError, subprocess.SubprocessError) as error:
                _missing = _words(error)
            else:
                _kernels = None if _missing else candidate
    return _kernels


def kernels() -> Kernels | None:
    """Return the kernels if `load` has found them."""
    return _kernels


def missing() -> str | None:
    """Return why there are no kernels; None where there are."""
    return None if _kernels is not None else _missing


def _unfit() -> str | None:
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return f"they are for Linux on x86, and this is {platform.system()} on {platform.machine()}"
    units = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    if not units >= NEEDED_UNITS:
        return f"this processor has no {', '.join(sorted(NEEDED_UNITS - units))}"
    if _compiler() is None:
        return "there is no C compiler: install gcc, or name one in CC"
    return None


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC", "")) or shutil.which("cc") or shutil.which("gcc")


def _built(cache: Path) -> Path:
    """Return the library's file, compiled now unless it is there already."""
    compiler = _compiler() or "cc"
    version = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, check=True, timeout=BUILD_SECONDS
    ).stdout
    files = sorted(SOURCES.glob("*.[ch]"))
    parts = [*(file.read_text(encoding="utf-8") for file in files), *FLAGS, version]
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    target = cache / f"kernels-{key}.so"
    if target.exists() and _own(target):
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        fresh = Path(folder) / target.name
        sources = [str(file) for file in files if file.suffix == ".c"]
        command = [compiler, *FLAGS, *sources, "-c"]
        subprocess.run(command, cwd=folder, capture_output=True, check=True, timeout=BUILD_SECONDS)
        # not linked against an OpenMP of its own: two in one process would fight for the cores
        objects = [f"{Path(source).stem}.o" for source in sources]
        link = [compiler, "-shared", *objects, "-lm", "-o", str(fresh)]
        subprocess.run(link, cwd=folder, capture_output=True, check=True, timeout=BUILD_SECONDS)
        fresh.chmod(0o700)
        os.replace(fresh, target)
    return target


def _own(file: Path) -> bool:
    """Whether nobody but this user can have written the file."""
    info = file.stat()
    return info.st_uid == os.getuid() and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _opened(cache: Path) -> ctypes.CDLL:
    file = _built(cache)
    try:
        return _open(file)
    except OSError:  # damaged on the disk: once more
        file.unlink()
        return _open(_built(cache))


def _open(file: Path) -> ctypes.CDLL:
    """Open the library, its OpenMP calls going to the runtime that PyTorch uses."""
    for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
        name = line.split(maxsplit=5)[-1]
        if "libgomp" in name or "libiomp5" in name:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(str(file))
    raise OSError("PyTorch here uses no OpenMP")


def _words(error: Exception) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
        return f"the C compiler failed: {said[0] if said else error}"
    return f"{type(error).__name__}: {error}"


def _wrong(candidate: Kernels) -> str | None:
    """Return which kernel does not compute what PyTorch computes; None where all do."""
    from lightune.nn.native_attention import differs

    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    x, grad, y = draw(37, 64).bfloat16(), draw(37, 96).bfloat16(), draw(37, 96).bfloat16()
    A, B, sum_x = draw(5, 64), draw(96, 5), draw(37, 64).bfloat16()
    h, g = x.double() @ A.double().T, grad.double() @ B.double()
    bias = draw(96).bfloat16()
    expected = [h, y + bias.double() + 2 * h @ B.double().T, sum_x + 2 * g @ A.double()]
    expected += [2 * g.T @ x.double(), 2 * grad.double().T @ h]
    found_h = candidate.lowrank_forward(x, A, B, bias, y, 2.0)
    found = candidate.lowrank_backward(grad, x, A, B, found_h, sum_x, 2.0)
    if not close([found_h, y, sum_x, *found], expected):
        return "the low-rank kernel computed something else than PyTorch in a trial"
    if not _pointwise_close(candidate, draw(3, 64).mul(3).bfloat16(), draw(3, 64).bfloat16()):
        return "a kernel for activations computed something else than PyTorch in a trial"
    if differs(candidate, generator):
        return "the attention kernel computed something else than PyTorch in a trial"
    return None


def _pointwise_close(candidate: Kernels, x: Tensor, u: Tensor) -> bool:
    """Whether GELU, the gate and the normalisation are PyTorch's, and their gradients; x and u are
    `[rows, width]`."""
    one, width = torch.ones_like(x), x.shape[-1]
    y, scales = candidate.rms_norm(x, u[0], 1e-5)
    found = [candidate.gelu(x), candidate.gelu_backward(one, x)]
    found += [candidate.gate(x, u), *candidate.gate_backward(one, x, u)]
    found += [y, candidate.rms_norm_backward(u, x, u[0], scales)]
    expected: list[Tensor | None] = []
    trials: tuple[tuple[Callable[..., Tensor], tuple[Tensor, ...], Tensor], ...] = (
        (nn.functional.gelu, (x,), one),
        (lambda g, up: nn.functional.silu(g) * up, (x, u), one),
        (lambda at: nn.functional.rms_norm(at, (width,), u[0].double(), 1e-5), (x,), u),
    )
    for function, inputs, grad in trials:
        exact = [t.double().requires_grad_() for t in inputs]
        result = function(*exact)
        result.backward(grad.double())
        expected += [result.detach(), *(t.grad for t in exact)]
    return close(found, expected)


def close(found: Sequence[Tensor], expected: Sequence[Tensor | None]) -> bool:
    """Whether all of `found` are `expected` but for rounding to bfloat16."""
    return all(
        e is not None and bool((f.double() - e).abs().max() <= TOLERANCE * e.abs().max())
        for f, e in zip(found, expected, strict=True)
    )
