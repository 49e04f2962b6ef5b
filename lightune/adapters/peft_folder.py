"""An adapter folder that PEFT wrote, described as a manifest so that it loads like one of ours.

What is adapted, and with which rank, is read off the tensors' names and shapes: `target_modules`
and the patterns of a stranger's file may be regular expressions, and those are never run. Ranks
or strengths that differ between layers become several LoRAs, one for each.
A prompt or a prefix is one tensor, `prompt_embeddings`: what a network made is saved without it.
PEFT puts it before the text, moves the text's positions up, and lets an encoder's head read its
first vector; it is loaded under that convention. (Where a language model classifies, PEFT reads the
last place of a padded row, and here the last token is read: equal for rows that are not padded.)
Errors: `AdapterError` for every setting that changes the forward pass in a way not built here; to
        ignore one would load an adapter that computes something else.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from lightune.adapters.peft_names import in_file, moved, plain
from lightune.adapters.tensors import LISTED, header
from lightune.errors import AdapterError
from lightune.methods.base import methods
from lightune.nn.prefixes import find_layers, peft_config
from lightune.nn.prompts import PEFT_NAME, Reads, peft_layout, reader
from lightune.nn.surgery import linears, norm_paths, shortest_ends
from lightune.settings import parse

READ = {"peft_type", "lora_alpha", "lora_dropout", "use_rslora", "base_model_name_or_path"}
DERIVED = {"r", "target_modules", "exclude_modules", "modules_to_save", "layers_pattern"}
DERIVED |= {"layers_to_transform", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "use_dora"}
DERIVED |= {"feedforward_modules"}
DERIVED |= {"num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_layers"}
DERIVED |= {"num_attention_heads", "prefix_projection"}
"""Keys whose effect is read off the tensors or the model, or checked against them."""
WITHOUT_EFFECT = {"task_type", "inference_mode", "revision", "auto_mapping", "peft_version"}
WITHOUT_EFFECT |= {
    "init_ia3_weights",
    "megatron_core",
    "qalora_group_size",
    "ensure_weight_tying",
    "runtime_config",
}
WITHOUT_EFFECT |= {"prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path"}
WITHOUT_EFFECT |= {"tokenizer_kwargs", "init_weights", "encoder_reparameterization_type"}
WITHOUT_EFFECT |= {"encoder_hidden_size", "encoder_num_layers", "encoder_dropout"}
STARTS = (True, False, "gaussian", "orthogonal", "eva")
"""Starts that leave the base's weights alone (PiSSA, OLoRA and others subtract from them)."""


def is_one(folder: Path) -> bool:
    """Return whether a folder has PEFT's config."""
    return (folder / PEFT_CONFIG).is_file()


@dataclass(frozen=True, slots=True)
class Described:
    """What a folder of PEFT's holds.

    Attributes:
        manifest: the method, the modules trained whole, the base it names.
        names: `{name here, without PEFT's prefix: name in the file}`.
        notes: what was mapped, one sentence each.
    """

    manifest: Manifest
    names: Mapping[str, str]
    notes: tuple[str, ...] = ()


def describe(folder: Path, model: nn.Module, force: bool = False) -> Described:
    """Return what PEFT's folder tells: method, targets and modules trained whole.

    Args:
        folder: has `adapter_config.json` and no manifest.
        model: the base it is for.
        force: read a folder of ours whose manifest is lost, without the checks that it allows.

    Raises:
        AdapterError: its method or a setting is not built here, it names layers that the model
            does not have, or it is one of ours without its manifest.
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
    shapes = header(path)
    mark, settings_of = METHODS[config["peft_type"]]
    adapted = {plain(n).partition(mark)[0]: None for n in shapes if mark in plain(n)}
    if not adapted:
        raise AdapterError(
            f"{path} holds no tensors of its method",
            found=f"no tensor with {mark!r} in its name, of {len(shapes)}",
            mend="copy it again from where it came",
        )
    way = _way(path, model, list(adapted), config) if mark.startswith(".") else None
    names = in_file(shapes, way)
    here = {name: shapes[file_name] for name, file_name in names.items()}
    chosen = settings_of(folder, config, here, model)
    beside = [name for name in here if mark not in name and ".lora_" not in name]
    notes: tuple[str, ...] = ()
    if way is not None:
        there, ours = (f"the prefix `{end}.`" if end else "no prefix" for end in way)
        notes = (f"{path}: {there} in the file is {ours} in this model, and was mapped",)
    return Described(
        Manifest(
            base=BaseModelId(source=str(config.get("base_model_name_or_path") or "")),
            method=chosen,
            new_modules=tuple(sorted({name.rpartition(".")[0] for name in beside})),
            layout="peft",
        ),
        names,
        notes,
    )


def _way(
    path: Path, model: nn.Module, adapted: list[str], config: Mapping[str, Any]
) -> tuple[str, str] | None:
    """Return how the file's layers are called here; None where they are called the same.

    Raises:
        AdapterError: some do not exist here under any name.
    """
    every = norm_paths(model) if config["peft_type"] == "LN_TUNING" else list(linears(model))
    absent = [layer for layer in adapted if layer not in every]
    if not absent:
        return None
    way = moved(adapted, every)
    if way is None:
        raise AdapterError(
            f"{path} adapts layers that {type(model).__name__} does not have",
            found="; ".join(f"no layer {module}" for module in sorted(absent)[:LISTED])
            + (f"; and {len(absent) - LISTED} more" if len(absent) > LISTED else ""),
            mend="load it onto the base model that it was trained with: "
            f"{config.get('base_model_name_or_path')}",
        )
    return way


Shapes = Mapping[str, tuple[int, ...]]


def _method(name: str, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    return describe_method(parse(methods()[name], settings, str(folder / PEFT_CONFIG)))


def _lora(
    folder: Path, config: Mapping[str, Any], shapes: Shapes, model: nn.Module
) -> dict[str, Any]:
    """Return one LoRA or DoRA, or several together where ranks or strengths differ."""
    groups: dict[tuple[str, int, Any], list[str]] = {}
    alpha_of = strengths(folder, config)
    for name, shape in shapes.items():
        layer, found, end = name.rpartition(".lora_A.")
        if not found or end != "weight" or not shape:
            continue
        kind = "dora" if f"{layer}.lora_magnitude_vector" in shapes else "lora"
        groups.setdefault((kind, shape[0], alpha_of(layer)), []).append(layer)
    parts = [
        _method(
            kind,
            {
                "rank": rank,
                "alpha": alpha,
                "dropout": config.get("lora_dropout") or 0.0,
                "rank_stabilized": bool(config.get("use_rslora")),
                "targets": targets,
            },
            folder,
        )
        for (kind, rank, alpha), targets in groups.items()
    ]
    return parts[0] if len(parts) == 1 else _method("combined", {"methods": parts}, folder)


def strengths(folder: Path, config: Mapping[str, Any]) -> Callable[[str], Any]:
    """Return the function from a layer's path to its alpha.

    Raises:
        AdapterError: one is no number, or the config's `alpha_pattern` holds regular expressions.
    """
    pattern = _literal(folder, config.get("alpha_pattern") or {})
    for alpha in (config.get("lora_alpha"), *(alpha for _, alpha in pattern)):
        if not isinstance(alpha, int | float | None):
            raise AdapterError(
                f"{folder / PEFT_CONFIG}: a strength is a number",
                found=f"{alpha!r:.60}",
                mend="`lora_alpha` as PEFT wrote it",
            )
    return lambda layer: next((a for fits, a in pattern if fits(layer)), config.get("lora_alpha"))


def _literal(folder: Path, pattern: Mapping[str, Any]) -> list[tuple[Callable[[str], bool], Any]]:
    """Return `(does it fit this path, value)` for each key of a pattern, in its order.

    Raises:
        AdapterError: a key is more than the end of a path, or a path behind `^`.
    """

    def fits(key: str) -> Callable[[str], bool]:
        if key.startswith("^"):
            return lambda path: path == key[1:]
        return lambda path: path == key or path.endswith(f".{key}")

    strange = [key for key in pattern if set("$*+?{}[]\\|()") & set(key) or "^" in key[1:]]
    if strange:
        raise AdapterError(
            f"{folder / PEFT_CONFIG}: alpha_pattern holds regular expressions, which are never run",
            found=", ".join(strange[:LISTED]),
            mend="write the layers' names out, or scale B by hand to one alpha",
        )
    return [(fits(key), value) for key, value in pattern.items()]


def _ia3(
    folder: Path, config: Mapping[str, Any], shapes: Shapes, model: nn.Module
) -> dict[str, Any]:
    sides: dict[str, list[str]] = {"inputs": [], "outputs": []}
    for name, shape in shapes.items():
        if name.endswith(".ia3_l"):
            sides["inputs" if shape[:1] == (1,) else "outputs"].append(name.removesuffix(".ia3_l"))
    return _method("ia3", dict(sides), folder)


def _norms(
    folder: Path, config: Mapping[str, Any], shapes: Shapes, model: nn.Module
) -> dict[str, Any]:
    mark = METHODS["LN_TUNING"][0]
    layers = {name.partition(mark)[0] for name in shapes if mark in name}
    every = layers == set(norm_paths(model))
    targets = None if every else shortest_ends(model, layers)
    return _method("norm_tuning", {"targets": targets}, folder)


def _prompt(
    folder: Path, config: Mapping[str, Any], shapes: Shapes, model: nn.Module
) -> dict[str, Any]:
    """Return prompt tuning or p-tuning, of the vectors alone."""
    ours = "p_tuning" if config["peft_type"] == "P_TUNING" else "prompt_tuning"
    where = reader(model, ours)
    reads: Reads = "text" if where.causal else "prompt"
    if peft_layout(where, "shifted", reads) != "peft":
        raise _another_way(folder, ours, f"{type(model).__name__} is an encoder–decoder")
    start = {"encoder": "none"} if ours == "p_tuning" else {"start": "random"}
    tokens = _tokens(folder, shapes)
    return _method(ours, {"tokens": tokens, "reads": reads, **start}, folder)


def _prefix(
    folder: Path, config: Mapping[str, Any], shapes: Shapes, model: nn.Module
) -> dict[str, Any]:
    name, tokens = "prefix_tuning", _tokens(folder, shapes)
    kind, layers = type(model).__name__, find_layers(model, tokens, name)
    here = peft_config(model, layers, "shifted")
    if here is None:
        found = f"{kind} takes no filled cache of keys and values, alike in all its layers"
        raise _another_way(folder, name, found)
    sizes = ("num_layers", "num_attention_heads", "token_dim")
    other = [f"{key} {config.get(key)}, here {here[key]}" for key in sizes]
    if any(config.get(key) != here[key] for key in sizes):
        raise _another_way(folder, name, "; ".join(other))
    settings = {"tokens": tokens, "positions": "shifted", "start": "random"}
    return _method(name, settings, folder)


def _tokens(folder: Path, shapes: Shapes) -> int:
    """Return how many vectors a prompt or a prefix has.

    Raises:
        AdapterError: the file has no matrix of them.
    """
    shape = shapes.get(PEFT_NAME, ())
    if len(shape) != 2:
        raise AdapterError(
            f"{folder / ADAPTER_WEIGHTS} holds no prompt",
            found=f"{PEFT_NAME} of shape {list(shape)}" if shape else ", ".join(shapes),
            mend="copy it again from where it came; a prompt is a matrix, one row for each token",
        )
    return shape[0]


def _another_way(folder: Path, method: str, found: str) -> AdapterError:
    return AdapterError(
        f"{folder} holds a prompt that PEFT enters into the model in a way not built here",
        found=found,
        mend=f"load it with PEFT, or train one here: `method: {method}`",
    )


METHODS: dict[str, tuple[str, Callable[..., dict[str, Any]]]] = {
    "LORA": (".lora_A.", _lora),
    "IA3": (".ia3_l", _ia3),
    "LN_TUNING": (".ln_tuning_layers.", _norms),
    "PROMPT_TUNING": (PEFT_NAME, _prompt),
    "P_TUNING": (PEFT_NAME, _prompt),
    "PREFIX_TUNING": (PEFT_NAME, _prefix),
}
"""`{peft_type: (what marks its tensors, function that gives our method)}`."""


def _check_settings(folder: Path, config: dict[str, Any]) -> None:
    """Refuse what would change the forward pass."""
    if str(config.get("peft_type")) not in METHODS:  # it may be a list
        raise AdapterError(
            f"{folder} holds a method of PEFT that is not read here",
            found=f"peft_type: {config.get('peft_type')!r}",
            mend=f"load it with PEFT; read here: {', '.join(METHODS)}",
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
            f"{folder / PEFT_CONFIG} uses settings that are not read here",
            found=", ".join(f"{key}: {value!r}" for key, value in unread.items()),
            mend="load it with PEFT, or train it without them",
        )
