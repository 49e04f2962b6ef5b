"""Start values of a low-rank product, and the layer for starts that are not zero.

Starts:     A [rank, in] and B [out, rank] of `scale * B A`, from a frozen weight W [out, in]:

                kaiming   A uniform as `nn.Linear`, B zero
                gaussian  A normal with deviation 1 / rank, B zero
                pissa     the `rank` largest singular values: scale * B A = U_r S_r V_r^T,
                          B = U_r (S_r / scale)^1/2, A = (S_r / scale)^1/2 V_r^T
                olora     the first `rank` steps of W = Q R: B = Q_r, A = R_r

Why a layer: with a product that does not start at zero, the base must start without it. PEFT
            writes W - scale * B0 A0 over the base; here the base is never written, and the layer
            computes W x + scale * (B A - B0 A0) x instead. Formed as

                B A - B0 A0 = (B - B0) A + B0 (A - A0)

            with both differences taken in float32, of the masters, before anything is cast: in
            bfloat16, B A and B0 A0 would each carry a rounding error larger than what training
            changes in its first steps. So it starts as the base bit for bit, in every format. It
            costs what twice the rank would.
Invariants: pissa and olora draw no random numbers; they are computed in float64, so that two
            machines agree to the last bits of float32.
Not here:   which layers, and the files (`methods/lora.py`).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from lightune.nn.lowrank import LowRankLinear
from lightune.nn.surgery import weight_out_in

Start = Literal["kaiming", "gaussian", "pissa", "olora"]


def pissa(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """Return A and B of PiSSA: Meng et al. 2024, arXiv:2404.02948, equations 2 and 3.

    From the eigenvectors of the smaller Gram matrix, many times faster than a singular value
    decomposition; float64 makes up for the squared condition. The sign of each pair is chosen so
    that the largest entry of a row of A is positive.

    Args:
        weight: `[out, in]`.
        rank: at most the smaller of `out` and `in`.
        scale: factor of the product.

    Returns:
        A `[rank, in]` and B `[out, rank]` in float32, with `scale * B A` the best approximation
        of that rank.
    """
    w = weight.detach().double()
    wide = w.shape[0] <= w.shape[1]
    squares, vectors = torch.linalg.eigh(w @ w.T if wide else w.T @ w)  # ascending
    one_side = vectors[:, -rank:].flip(1)
    sizes = squares[-rank:].flip(0).clamp_min(0).sqrt()
    sizes = sizes.clamp_min(max(1e-15 * float(sizes[0]), 1e-300))
    other_side = (w.T @ one_side if wide else w @ one_side) / sizes
    left, right = (one_side, other_side) if wide else (other_side, one_side)
    half = (sizes / scale).sqrt()
    A, B = (right * half).T, left * half
    signs = A.gather(1, A.abs().argmax(1, keepdim=True)).sign()
    signs[signs == 0] = 1
    return (A * signs).float().contiguous(), (B * signs.T).float().contiguous()


def olora(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return A and B of OLoRA: Büyükakyüz 2024, arXiv:2406.01775, algorithm 1.

    The first columns of Q depend on the first columns of W alone, so only those are decomposed.

    Args:
        weight: `[out, in]`.
        rank: at most the smaller of `out` and `in`.

    Returns:
        A `[rank, in]`, the first rows of R, and B `[out, rank]`, orthonormal, in float32.
    """
    w = weight.detach().double()
    Q, _ = torch.linalg.qr(w[:, :rank])
    return (Q.T @ w).float().contiguous(), Q.float().contiguous()


class StartedLinear(LowRankLinear):
    """A low-rank layer that starts from a product and subtracts it: `W + scale (B A - B0 A0)`.

    Dropout acts on the whole update, so that it leaves the start alone; PEFT's would act on the
    principal part of the weight itself.

    Args:
        base: see `LowRankLinear`.
        start: `pissa` or `olora`.
    """

    A0: Tensor
    B0: Tensor

    def __init__(
        self, base: nn.Module, rank: int, scale: float, dropout: float, start: Start
    ) -> None:
        super().__init__(base, rank, scale, dropout)
        weight = weight_out_in(base)
        A, B = pissa(weight, rank, scale) if start == "pissa" else olora(weight, rank)
        self.register_buffer("A0", A)
        self.register_buffer("B0", B)
        with torch.no_grad():
            self.A.copy_(A)
            self.B.copy_(B)

    def product(self) -> tuple[Tensor, Tensor]:
        """Return the change as one product of twice the rank: `[A; A - A0]` and `[B - B0, B0]`."""
        inner = torch.cat([self.A, self.A - self.A0])
        return inner, torch.cat([self.B - self.B0, self.B0], dim=1)
