"""AdapterHub folders: bottleneck adapters as the package `adapters` 1.3 writes them.

    adapter_config.json    the settings, under "config"
    adapter.safetensors    `<place>.adapters.<name>.adapter_down.0.weight` …
    head_config.json, model_head.safetensors    the output layer, where it was saved with it

Names:      `<place>` follows the package's own tree of each model family, which is told here by
            the structural roles of the model; only families compared with it are taken
            (`hub_names.py`). A name prefix that is left out (a folder saved from a bare base model)
            is put back, and said.
Invariants: the bottleneck's width is read off the tensors; no pickle is opened; names and shapes
            are compared in full before a tensor is read; what fails leaves the model as it was.
Errors:     `AdapterError` for every setting that changes the forward pass in a way not built here,
            for other methods of the package, for flexible heads of several layers, and for a model
            of another family or width.
Not here:   PEFT's folders (`peft_folder.py`).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightune.adapters.files import PEFT_CONFIG, PICKLES, read_json, weights_file
from lightune.adapters.hub_names import PARAMETERS, check_family, places
from lightune.adapters.manifest import HeadId, Manifest, describe_method
from lightune.adapters.tensors import LISTED, check_shapes, header, tensors
from lightune.errors import AdapterError
from lightune.methods.base import Attachment
from lightune.methods.beside import train_new_modules
from lightune.methods.bottleneck import BottleneckAdapter
from lightune.nn.surgery import Surgery, head_path
from lightune.settings import parse

WEIGHTS = "adapter.safetensors"
HEAD_CONFIG = "head_config.json"
HEAD_WEIGHTS = "model_head.safetensors"

ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "swish": "silu", "silu": "silu", "tanh": "tanh"}
"""The package's words for activations, and ours."""

READ = {"mh_adapter", "output_adapter", "cross_adapter", "is_parallel", "original_ln_before"}
READ |= {"original_ln_after", "residual_before_ln", "non_linearity", "scaling", "dropout"}
WITHOUT_EFFECT = {"reduction_factor", "init_weights", "init_weights_seed", "architecture"}
WITHOUT_EFFECT |= {"adapter_residual_before_ln", "inv_adapter_reduction_factor", "phm_dim"}
WITHOUT_EFFECT |= {"factorized_phm_W", "factorized_phm_rule", "shared_W_phm", "shared_phm_rule"}
WITHOUT_EFFECT |= {"phm_c_init", "phm_init_range", "learn_phm", "hypercomplex_nonlinearity"}
WITHOUT_EFFECT |= {"phm_rank", "phm_bias"}
"""Keys read off the tensors, or that matter only beside one that is refused."""

_NAME = re.compile(r"\.adapters\.([^.]+)\.(adapter_down|adapter_up|scaling)")


def is_one(folder: Path) -> bool:
    """Return whether a folder has the package's config, and not PEFT's of the same name."""
    if not (folder / PEFT_CONFIG).is_file():
        return False
    config = read_json(folder, PEFT_CONFIG)
    return "peft_type" not in config and "config" in config and "model_type" in config


def load_hub_folder(
    folder: Path, model: Any, head: bool = True, note: Callable[[str], None] = warnings.warn
) -> tuple[list[Attachment], Manifest]:
    """Attach an adapter that the package `adapters` saved.

    Args:
        folder: has `adapter_config.json` and `adapter.safetensors`.
        model: the base model, frozen, of the same family; with an output layer of the folder's
            labels where the folder has one.
        head: False leaves the folder's output layer out.
        note: takes each sentence that the user should read.

    Returns:
        The attachments in order (the method's, then the output layer's), and a manifest of what
        the folder tells, without a hash of the base.

    Raises:
        AdapterError: see the module.
    """
    folder = Path(folder)
    described = read_json(folder, PEFT_CONFIG)
    _check_family(folder, described, model)
    path = _weights(folder)
    found = header(path)
    name = _adapter_name(path, found)
    prefix = _left_out_prefix(found, model)
    if prefix:
        note(f"names in {path.name} lack the prefix {prefix!r}, which was put before them")
    method = _method(folder, described, found, model)
    with_head = head and (folder / HEAD_WEIGHTS).exists()
    labels = labels_of(folder) if with_head else ()
    modules = (head_path(model),) if with_head else ()
    expected = {place: hub[len(prefix) :] for place, hub in places(model, method, name).items()}
    parts: list[Attachment] = []
    try:
        with torch.random.fork_rng(devices=[]):  # the random start is overwritten: leave no trace
            parts.append(_head(folder, model, modules))
            parts.insert(0, method.attach(model))
        trained = parts[0].trainable
        names = {p: _file_name(p, expected) for p in trained}
        check_shapes(path, found, {names[p]: tuple(t.shape) for p, t in trained.items()})
        with torch.no_grad():
            for key, tensor in tensors(path, names):
                trained[key].copy_(tensor)
        if with_head:
            _fill_head(folder, model, parts[1])
    except BaseException:
        for part in parts:
            part.detach()
        raise
    manifest = Manifest(
        method=describe_method(method),
        head=HeadId(kind="sequence_classification", labels=labels) if labels else None,
        new_modules=parts[1].modules,
        layout="tensors",
    )
    return parts, manifest


def _weights(folder: Path) -> Path:
    pickles = [p.name for p in folder.iterdir() if p.name.endswith(PICKLES)]
    if pickles and not (folder / WEIGHTS).exists():
        raise AdapterError(
            f"{folder} holds its weights as pickle, which can run any code when it is read",
            found=", ".join(sorted(pickles)),
            mend="save it again with `model.save_adapter(folder, name, use_safetensors=True)`",
        )
    return weights_file(folder, WEIGHTS)


def _check_family(folder: Path, described: dict[str, Any], model: Any) -> None:
    """Refuse a folder for another family than the model's, or one never compared."""
    family = described.get("model_type")
    ours = model.config.model_type
    if family != ours:
        raise AdapterError(
            f"{folder} is an adapter for another kind of model",
            found=f"the adapter's: {family}; this model: {ours}",
            mend=f"load it onto a {family} model",
        )
    check_family(family)


def _method(folder: Path, described: dict[str, Any], found: Any, model: Any) -> BottleneckAdapter:
    """Return the method with the folder's settings.

    Raises:
        AdapterError: a setting changes the forward pass in a way not built here.
    """
    where = folder / PEFT_CONFIG
    config = described.get("config")
    if not isinstance(config, dict) or config.get("architecture") is not None:
        raise AdapterError(
            f"{where} describes another method than a bottleneck adapter",
            found=repr(config.get("architecture") if isinstance(config, dict) else config),
            mend="load it with the package `adapters`; its bottleneck adapters are read",
        )
    unread = {
        key: value
        for key, value in config.items()
        if key not in READ | WITHOUT_EFFECT and value not in (None, False, [], {}, 0, 0.0)
    }
    if config.get("residual_before_ln", True) is not True:
        unread["residual_before_ln"] = config["residual_before_ln"]
    if config.get("original_ln_after", True) is not True:
        unread["original_ln_after"] = config["original_ln_after"]
    placement = _placement(config)
    if placement is None:
        keys = ("mh_adapter", "output_adapter", "original_ln_before", "is_parallel")
        unread |= {key: config.get(key) for key in keys}
    if config.get("non_linearity") not in ACTIVATIONS:
        unread["non_linearity"] = config.get("non_linearity")
    if model.config.model_type == "albert" and config.get("mh_adapter"):
        unread["mh_adapter"] = "on ALBERT, where the package adds it to the residual"
    inner = {shape[0] for name, shape in found.items() if "adapter_down.0.weight" in name and shape}
    if len(inner) > 1:
        unread["reduction_factor"] = f"widths {sorted(inner)}"
    if unread:
        raise AdapterError(
            f"{where} uses settings that are not read here",
            found=", ".join(f"{key}: {value!r}" for key, value in list(unread.items())[:LISTED]),
            mend="load it with the package `adapters`, or train it without them",
        )
    settings = {
        "placement": placement,
        "width": next(iter(inner), 1),
        "activation": ACTIVATIONS[config["non_linearity"]],
        "scale": config.get("scaling", 1.0),
        "dropout": config.get("dropout") or 0.0,
        "start": "bert",
        "cross_attention": bool(config.get("cross_adapter")),
        "parallel_input": "residual",
        "pooler": False,
    }
    return parse(BottleneckAdapter, settings, str(where))


def _placement(config: dict[str, Any]) -> str | None:
    """Return our word for where the package puts the adapters, None where we have none."""
    attention, output = bool(config.get("mh_adapter")), bool(config.get("output_adapter"))
    before = bool(config.get("original_ln_before"))
    if config.get("is_parallel"):
        return "parallel" if output and not attention else None
    if attention and output and not before:
        return "houlsby"
    return "pfeiffer" if output and not attention and before else None


def _adapter_name(path: Path, found: Any) -> str:
    names = {match[1] for name in found if (match := _NAME.search(name))}
    if len(names) != 1:
        raise AdapterError(
            f"{path} must hold one bottleneck adapter",
            found=", ".join(sorted(names)) or ", ".join(list(found)[:LISTED]) or "no tensors",
            mend="save each adapter to a folder of its own",
        )
    return names.pop()


def _left_out_prefix(found: Any, model: nn.Module) -> str:
    prefix = f"{getattr(model, 'base_model_prefix', '')}."
    inside = hasattr(model, prefix[:-1]) and not any(name.startswith(prefix) for name in found)
    return prefix if inside else ""


def _file_name(path: str, expected: dict[str, str]) -> str:
    place, _, parameter = path.rpartition(".")
    return f"{expected[place]}.{PARAMETERS[parameter]}"


def labels_of(folder: Path) -> tuple[str, ...]:
    """Return the class names of the saved head; they may also be missing."""
    if not (folder / HEAD_CONFIG).exists():
        return ()
    known = read_json(folder, HEAD_CONFIG).get("label2id")
    return (
        tuple(sorted(map(str, known), key=lambda label: known[label]))
        if isinstance(known, dict)
        else ()
    )


def _head(folder: Path, model: nn.Module, modules: tuple[str | None, ...]) -> Attachment:
    """Make the output layer trainable; without one in the folder, nothing."""
    if not modules:
        return Attachment(Surgery(model), {}, "tensors")
    if modules[0] is None:
        raise AdapterError(
            f"{folder} has an output layer, and {type(model).__name__} has no place for it",
            found=HEAD_WEIGHTS,
            mend="load with `head=False`, or give a model with an output layer",
        )
    return train_new_modules(model, [modules[0]])


def _fill_head(folder: Path, model: Any, part: Attachment) -> None:
    """Copy the output layer: under the model's own names, or one flexible layer."""
    path = weights_file(folder, HEAD_WEIGHTS)
    found = header(path)
    names = {p: p for p in part.trainable}
    flexible = sorted({name.rpartition(".")[0] for name in found if name.startswith("heads.")})
    if len(flexible) == 1 and len({p.rpartition(".")[0] for p in names}) == 1:
        names = {p: f"{flexible[0]}.{p.rpartition('.')[2]}" for p in names}
    elif flexible:
        raise AdapterError(
            f"{path} holds a flexible head of {len(flexible)} layers, which has no equal here",
            found=", ".join(flexible),
            mend="load with `head=False` and train the output layer anew",
        )
    check_shapes(path, found, {names[p]: tuple(t.shape) for p, t in part.trainable.items()})
    with torch.no_grad():
        for key, tensor in tensors(path, names):
            part.trainable[key].copy_(tensor)
