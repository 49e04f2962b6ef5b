"""Several LoRA adapters of one base as one: a weighted sum, factored again.

    W' = W + sum_i w_i s_i B_i A_i        s_i: alpha_i / rank_i of adapter i, w_i its weight

How:        the sum is a product already, of the A's stacked and the B's side by side, of rank
            R = sum of the ranks. A QR decomposition of each and the singular values of the small
            R x R matrix between them give the best factors of any lower rank (Eckart and Young
            1936), without ever forming a matrix of a layer's size.
Ranks:      may differ, between adapters and between layers; a layer that an adapter does not have
            counts as zero there. With no rank given nothing is lost: the result has R.
Beside:     modules trained whole (heads) are averaged with the weights, divided by their sum.
Errors:     `AdapterError` for adapters of different bases, labels or tokenizers; for what is no
            sum of products (DoRA, bottlenecks, prompts); for heads that not all have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightune.adapters.files import (
    ADAPTER_WEIGHTS,
    PEFT_CONFIG,
    read_json,
    weights_file,
)
from lightune.adapters.manifest import Manifest, check_files, describe_method, read_manifest
from lightune.adapters.onto_base import adapter_folder, format_of
from lightune.adapters.peft_folder import strengths
from lightune.adapters.peft_names import plain
from lightune.adapters.save import PEFT_PREFIX, PEFT_VERSION, save_tensors
from lightune.adapters.tensors import header, tensors
from lightune.errors import AdapterError
from lightune.methods.lora import LoRA


@dataclass(slots=True)
class Product:
    """`B A`, with `A` `[rank, in]` and `B` `[out, rank]`, strength and weight inside `B`."""

    A: Tensor
    B: Tensor


@dataclass(slots=True)
class Source:
    """One adapter, read from its files.

    Attributes:
        folder: where it is.
        config: PEFT's.
        manifest: ours, where it has one.
        products: by the path of the layer, strength inside.
        beside: the other tensors, by name without prefix.
    """

    folder: Path
    config: dict[str, Any]
    manifest: Manifest | None
    products: dict[str, Product]
    beside: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Combined:
    """What was written.

    Attributes:
        rank: of every layer.
        layers: how many were adapted.
        lost: share of the sum that the lower rank left out, in the Frobenius norm; 0 to 1.
    """

    rank: int
    layers: int
    lost: float


def combine(
    folders: Sequence[Path],
    weights: Sequence[float],
    out: Path,
    rank: int | None = None,
) -> Combined:
    """Write the weighted sum of LoRA adapters to a new folder, in PEFT's format.

    Args:
        folders: runs or adapter folders, ours or PEFT's, all of one base.
        weights: one for each; 1/n each gives the mean.
        out: does not exist yet.
        rank: of the result; None keeps all of the sum.

    Raises:
        AdapterError: see the module.
    """
    if len(folders) < 2 or len(weights) != len(folders) or not all(map(isfinite, weights)):
        raise AdapterError(
            "combining takes two adapters or more, and one finite weight for each",
            found=f"{len(folders)} adapters, weights {', '.join(map(str, weights)) or 'none'}",
            mend="--weights " + ",".join(["0.5"] * max(2, len(folders))),
        )
    if rank is not None and rank < 1:
        raise AdapterError("the rank of the sum is at least 1", str(rank), "--rank 8")
    sources = [read(folder) for folder in folders]
    _check_same(sources)
    stacked = stack(sources, weights)
    full = max(product.A.shape[0] for product in stacked.values())
    rank = min(rank or full, full)
    written: dict[str, Tensor] = {}
    whole, left = 0.0, 0.0
    for layer, product in stacked.items():
        small, values = refactor(product, rank)
        written[f"{PEFT_PREFIX}{layer}.lora_A.weight"] = small.A
        written[f"{PEFT_PREFIX}{layer}.lora_B.weight"] = small.B
        whole += values.square().sum().item()
        left += values[rank:].square().sum().item()
    beside = _mean(sources, weights)
    written |= {PEFT_PREFIX + name: tensor for name, tensor in beside.items()}
    _save(out, sources[0], written, list(stacked), list(beside), rank)
    return Combined(rank, len(stacked), sqrt(left / whole) if whole else 0.0)


def read(folder: Path) -> Source:
    """Read a LoRA adapter, every strength put into its B.

    Raises:
        AdapterError: it is none, damaged, or no sum of products.
    """
    folder = adapter_folder(folder)
    form = format_of(folder)
    manifest = read_manifest(folder) if form == "lightune" else None
    kind = manifest.method.get("name") if manifest else form
    if not (folder / PEFT_CONFIG).is_file() or form == "adapterhub":
        raise _no_sum(folder, f"method {kind!r}")
    config = read_json(folder, PEFT_CONFIG)
    if config.get("peft_type") != "LORA" or config.get("use_dora"):
        raise _no_sum(folder, f"method {'dora' if config.get('use_dora') else kind!r}")
    if manifest is not None:
        check_files(folder, manifest)
    path = weights_file(folder, ADAPTER_WEIGHTS)
    found = {
        key: value.float() for key, value in tensors(path, {plain(n): n for n in header(path)})
    }
    alphas = strengths(folder, config)
    products: dict[str, Product] = {}
    for key in [key for key in found if key.endswith(".lora_A.weight")]:
        layer = key.removesuffix(".lora_A.weight")
        A, B = found.pop(key), found.pop(f"{layer}.lora_B.weight", None)
        if B is None or B.shape[1] != A.shape[0]:
            raise AdapterError(
                f"{path}: the factors of {layer} do not fit each other",
                found=f"A {tuple(A.shape)}, B {'missing' if B is None else tuple(B.shape)}",
                mend="copy the file again from where it came",
            )
        root = sqrt(A.shape[0]) if config.get("use_rslora") else A.shape[0]
        products[layer] = Product(A, B * (alphas(layer) / root))
    odd = [key for key in found if ".lora_" in key]
    if odd or not products:
        raise _no_sum(folder, f"tensors such as {odd[0]}" if odd else "no LoRA tensors")
    return Source(folder, config, manifest, products, found)


def _no_sum(folder: Path, found: str) -> AdapterError:
    return AdapterError(
        f"{folder} cannot be combined: it is no sum of low-rank products",
        found=found,
        mend="combine LoRA adapters; others can be merged one by one (`lightune adapters merge`)",
    )


def _check_same(sources: Sequence[Source]) -> None:
    """Refuse adapters that do not belong to one base, with one output layer."""
    first = sources[0]
    for other in sources[1:]:
        pairs: list[tuple[str, Any, Any]] = [
            ("modules beside it", sorted(first.beside), sorted(other.beside)),
            ("base", _base(first), _base(other)),
        ]
        if first.manifest and other.manifest:
            pairs += [
                ("labels", first.manifest.head, other.manifest.head),
                (
                    "tokenizer",
                    first.manifest.base.tokenizer_sha256,
                    other.manifest.base.tokenizer_sha256,
                ),
            ]
        different = [(what, a, b) for what, a, b in pairs if a != b]
        if different:
            what, a, b = different[0]
            raise AdapterError(
                f"{first.folder} and {other.folder} do not belong together: their {what} differ",
                found=f"{a} and {b}"[:300],
                mend="combine adapters of one base model and one set of labels",
            )


def _base(source: Source) -> str:
    if source.manifest and source.manifest.base.tensors_sha256:
        return source.manifest.base.tensors_sha256
    return str(source.config.get("base_model_name_or_path"))


def stack(sources: Sequence[Source], weights: Sequence[float]) -> dict[str, Product]:
    """Return the weighted sum of each layer as one product of the ranks' sum.

    Raises:
        AdapterError: a layer has other sizes in another adapter.
    """
    parts: dict[str, list[Product]] = {}
    for source, weight in zip(sources, weights, strict=True):
        for layer, product in source.products.items():
            scaled = Product(product.A, product.B * weight)
            first = parts.setdefault(layer, [scaled])[0]
            if first is not scaled:
                if (first.A.shape[1], first.B.shape[0]) != (scaled.A.shape[1], scaled.B.shape[0]):
                    raise AdapterError(
                        f"{layer} has other sizes in {source.folder}",
                        found=f"{tuple(scaled.B.shape)} beside {tuple(first.B.shape)}",
                        mend="combine adapters of one base model",
                    )
                parts[layer].append(scaled)
    return {
        layer: Product(torch.cat([p.A for p in ps]), torch.cat([p.B for p in ps], dim=1))
        for layer, ps in parts.items()
    }


def refactor(product: Product, rank: int) -> tuple[Product, Tensor]:
    """Return the best product of `rank`, and the singular values of the whole one.

    Where the given product has a lower rank, rows of zeros fill up.
    """
    left, inner = torch.linalg.qr(product.B.double())  # [out, k], [k, R]
    right, other = torch.linalg.qr(product.A.double().T)  # [in, m], [m, R]
    u, values, vh = torch.linalg.svd(inner @ other.T)
    keep = min(rank, len(values))
    root = values[:keep].sqrt()
    A = root[:, None] * (vh[:keep] @ right.T)
    B = (left @ u[:, :keep]) * root
    full_A, full_B = A.new_zeros(rank, A.shape[1]), B.new_zeros(B.shape[0], rank)
    full_A[:keep], full_B[:, :keep] = A, B
    return Product(full_A.float(), full_B.float()), values


def _mean(sources: Sequence[Source], weights: Sequence[float]) -> dict[str, Tensor]:
    total = sum(weights)
    names = list(sources[0].beside)
    shapes = {tuple(s.beside[name].shape) for name in names[:1] for s in sources}
    if names and (not total or len(shapes) > 1):
        raise AdapterError(
            "the modules beside the adapters (heads) have no mean",
            found=f"weights that sum to {total:g}, shapes {', '.join(map(str, shapes))}",
            mend="weights with another sum, and adapters with the same labels",
        )
    return {
        name: sum(
            (s.beside[name] * (w / total) for s, w in zip(sources, weights, strict=True)),
            start=torch.zeros_like(sources[0].beside[name]),
        )
        for name in names
    }


def _save(
    out: Path,
    first: Source,
    written: dict[str, Tensor],
    layers: list[str],
    beside: list[str],
    rank: int,
) -> None:
    modules = sorted({name.rpartition(".")[0] for name in beside})
    config = first.config | {
        "r": rank,
        "lora_alpha": rank,  # the strength is inside the factors
        "use_rslora": False,
        "lora_dropout": 0.0,
        "rank_pattern": {},
        "alpha_pattern": {},
        "target_modules": layers,
        "modules_to_save": modules or None,
        "peft_version": PEFT_VERSION,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    method = describe_method(LoRA(rank=rank, alpha=rank, targets=layers))
    manifest = first.manifest or Manifest(method=method)
    manifest = manifest.model_copy(
        update={"method": method, "layout": "peft", "new_modules": tuple(modules), "metrics": {}}
    )
    if first.manifest is None:  # PEFT's own: there is no hash that would bind it to its base
        config["peft_version"] = PEFT_VERSION.partition("+")[0]
    save_tensors(out, written, manifest if first.manifest else None, config)
