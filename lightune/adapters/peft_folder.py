"""A LoRA folder that PEFT wrote, described as a manifest so that it loads like one of ours.

What is adapted is read off the tensors' names and shapes: `target_modules` and the patterns of a
stranger's file may be regular expressions, and those are never run.
Errors: `AdapterError` for every setting that changes the forward pass in a way not built here; to
        ignore one would load an adapter that computes something else.
"""

from pathlib import Path
from typing import Any

from torch import nn

from lightune.adapters.files import (
    ADAPTER_WEIGHTS,
    MANIFEST,
    OURS,
    PEFT_CONFIG,
    read_json,
    weights_file,
)
from lightune.adapters.manifest import BaseModelId, Manifest, describe_method
from lightune.adapters.save import PEFT_PREFIX
from lightune.adapters.tensors import LISTED, header
from lightune.errors import AdapterError
from lightune.methods.lora import LoRA
from lightune.nn.surgery import linears
from lightune.settings import parse

READ = {"peft_type", "lora_alpha", "lora_dropout", "use_rslora", "base_model_name_or_path"}
DERIVED = {"r", "target_modules", "exclude_modules", "modules_to_save", "layers_pattern"}
DERIVED |= {"layers_to_transform", "fan_in_fan_out"}
"""Keys whose effect is read off the tensors or the model."""
WITHOUT_EFFECT = {"task_type", "inference_mode", "revision", "auto_mapping", "peft_version"}
WITHOUT_EFFECT |= {"megatron_core", "qalora_group_size", "ensure_weight_tying", "runtime_config"}
STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Starts that leave the base's weights alone (PiSSA, OLoRA and others subtract from them)."""


def is_one(folder: Path) -> bool:
    """Return whether a folder has PEFT's config."""
    return (folder / PEFT_CONFIG).is_file()


def describe(folder: Path, model: nn.Module, force: bool = False) -> Manifest:
    """Return what PEFT's folder tells: method, targets and modules trained whole.

    Args:
        folder: has `adapter_config.json` and no manifest.
        model: the base it is for.
        force: read a folder of ours whose manifest is lost, without the checks that it allows.

    Raises:
        AdapterError: it is not a LoRA, uses a setting not built here, names layers that the model
            does not have, or is one of ours without its manifest.
    """
    config = read_json(folder, PEFT_CONFIG)
    if str(config.get("peft_version")).endswith(OURS) and not force:
        raise AdapterError(
            f"{folder} was written by Lightune and has lost its {MANIFEST}",
            found="no hash of the base model, no labels",
            mend=f"copy {MANIFEST} from where the folder came, or pass force=True to do without",
        )
    _check_settings(folder, config)
    path = weights_file(folder, ADAPTER_WEIGHTS)
    targets: list[str] = []
    ranks: dict[str, int] = {}
    modules: set[str] = set()
    for name, shape in header(path).items():
        inner = name.removeprefix(PEFT_PREFIX)
        module, _, end = inner.rpartition(".lora_A.")
        if end == "weight" and shape:
            targets.append(module)
            ranks[module] = shape[0]
        elif ".lora_" not in inner:
            modules.add(inner.rpartition(".")[0])
    absent = sorted(set(targets) - set(linears(model)))
    if absent or not targets:
        raise AdapterError(
            f"{path} adapts layers that {type(model).__name__} does not have"
            if targets
            else f"{path} holds no LoRA tensors",
            found="; ".join(f"no linear layer {module}" for module in absent[:LISTED])
            + (f"; and {len(absent) - LISTED} more" if len(absent) > LISTED else ""),
            mend="load it onto the base model that it was trained with: "
            f"{config.get('base_model_name_or_path')}",
        )
    if len(set(ranks.values())) > 1:
        raise AdapterError(
            f"{path} has different ranks in different layers, which `lora` does not do",
            found=", ".join(f"{m}: {r}" for m, r in list(ranks.items())[:LISTED]),
            mend="train it with one rank, or load it with PEFT",
        )
    settings = {
        "rank": next(iter(ranks.values())),
        "alpha": config.get("lora_alpha"),
        "dropout": config.get("lora_dropout") or 0.0,
        "rank_stabilized": bool(config.get("use_rslora")),
        "targets": targets,
    }
    return Manifest(
        base=BaseModelId(source=str(config.get("base_model_name_or_path") or "")),
        method=describe_method(parse(LoRA, settings, str(folder / PEFT_CONFIG))),
        new_modules=tuple(sorted(modules)),
        layout="peft",
    )


def _check_settings(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what would change the forward pass."""
    if config.get("peft_type") != "LORA":
        raise AdapterError(
            f"{folder} holds a method of PEFT that is not read here",
            found=f"peft_type: {config.get('peft_type')!r}",
            mend="load it with PEFT; LoRA folders are read",
        )
    neutral = READ | DERIVED | WITHOUT_EFFECT
    unread = {
        key: value
        for key, value in config.items()
        if key not in neutral and key != "init_lora_weights" and value not in (None, "none")
        if value is not False and value != {} and value != []
    }
    start = config.get("init_lora_weights", True)
    if not (isinstance(start, bool) or start in STARTS):
        unread["init_lora_weights"] = start
    if unread:
        raise AdapterError(
            f"{folder / PEFT_CONFIG} uses settings of LoRA that are not read here",
            found=", ".join(f"{key}: {value!r}" for key, value in unread.items()),
            mend="load it with PEFT, or train it without them",
        )
