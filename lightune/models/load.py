"""From a model's name to a frozen model with the head a task needs, and what is new in it.

How:        Transformers loads the weights and reports which tensors the checkpoint did not have;
            those of the head (and a missing pooler) are created at random under the seed.
Invariants: every parameter is frozen, the model is in eval mode and on the CPU; the global random
            state is untouched; nothing is printed. A checkpoint that lacks part of the encoder is
            an error: random blocks would train, badly and in silence.
Errors:     `ModelError`; `ResourceError` when memory does not suffice.
Not here:   where the files come from (`sources.py`), what trains (`methods/`).
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedModel

from lightune.errors import ModelError, ResourceError
from lightune.models.fetch import Progress
from lightune.models.folder import check_folder
from lightune.models.hashing import base_hash
from lightune.models.heads import LANGUAGE_MODELS, auto_class, configure, labels_of
from lightune.models.quiet import quiet
from lightune.models.sources import ignore, resolve
from lightune.models.tokenizer import (
    check_fit,
    complete_pad,
    complete_segments,
    load_tokenizer,
    longest,
    not_normalised,
)
from lightune.nn.surgery import block_paths
from lightune.types import HeadSpec

_BAD_CONFIG = (StrictDataclassError, LookupError, TypeError, AttributeError)
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(slots=True)
class Base:
    """A base model, ready for a method to be attached.

    Attributes:
        model: frozen, in eval mode, on the CPU.
        tokenizer: with a pad token.
        name: as the user wrote it.
        source: where the weights came from, in words.
        revision: of the source; empty where it has none.
        weights_sha256: of the weights file.
        new_modules: paths of the modules the checkpoint did not have, in the model's order;
            created at random, so that they must be trained.
        max_length: the most tokens a text may have.
        notes: what was missing, set or left out, one sentence each.
        folder: the model's files.
    """

    model: PreTrainedModel
    tokenizer: Any
    name: str
    source: str
    revision: str
    weights_sha256: str
    new_modules: tuple[str, ...]
    max_length: int
    notes: list[str] = field(default_factory=list)
    folder: Path = Path()

    def hash(self) -> str:
        """Return the fingerprint of the tensors that came with the checkpoint."""
        return base_hash(self.model, self.new_modules)


def load(
    name: str,
    head: HeadSpec,
    seed: int = 0,
    dtype: str = "float32",
    progress: Progress = ignore,
) -> Base:
    """Load a base model with a head.

    Args:
        name: catalogue name, `org/name[@revision]`, `ms:org/name[@revision]`, or a folder.
        head: the output layer; classification heads take their classes from it.
        seed: for the modules that the checkpoint does not have.
        dtype: `float32`, `bfloat16` or `float16`; other checkpoints are converted.
        progress: called while files are fetched.

    Raises:
        ModelError: the model cannot be found, read, or given this head.
        MissingExtra: its tokenizer needs a package that is not installed.
        ResourceError: the disk is full, or memory does not suffice.
    """
    if dtype not in _DTYPES:
        raise ModelError(f"dtype {dtype!r} cannot be loaded", dtype, f"one of {', '.join(_DTYPES)}")
    notes: list[str] = []
    resolved = resolve(name, on_note=notes.append, progress=progress)
    notes += resolved.notes
    config = _config(resolved.folder)
    own_labels, stored = labels_of(config), config.dtype
    auto = auto_class(config, head)
    configure(config, head)
    tokenizer = load_tokenizer(resolved.folder, config)
    model, info = _seeded(seed, lambda: _load_weights(resolved.folder, auto, config, dtype))
    if stored not in (None, _DTYPES[dtype]):
        notes.append(f"the checkpoint's {str(stored).removeprefix('torch.')} becomes {dtype}")
    new_keys = _new_keys(model, info, resolved.folder)
    if head.kind in LANGUAGE_MODELS:
        _check_vocabulary(model, new_keys, resolved.folder)
        # greedy or not is the task's to say, not the checkpoint's sampling settings
        model.generation_config = _vocabulary_rules(model)
    # start and end mean the same in every checkpoint: an own layer for answers is of use
    classes = head.labels and head.kind != "question_answering"
    output = _output_layer(model, auto) if classes else set()
    if output and output.isdisjoint(new_keys) and own_labels != head.labels:
        _replace(model, output, _seeded(seed, lambda: auto.from_config(config)))
        new_keys |= output
        notes.append(
            f"the checkpoint's own output layer is for other labels ({_few(own_labels)}): "
            "it is replaced by a new one"
        )
    new_modules = _owners(model, new_keys)
    if new_modules:
        notes.append(f"new, random under seed {seed}, to be trained: {', '.join(new_modules)}")
    notes += _notes_of_tensors(model, info)
    notes += not_normalised(tokenizer)
    notes += complete_pad(tokenizer, model.config)
    notes += complete_segments(tokenizer, model.config)
    check_fit(tokenizer, model)
    max_length, said = longest(model, tokenizer)
    model.config.use_cache = False  # generation asks for its cache; training needs none
    return Base(
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        name=name,
        source=resolved.source,
        revision=resolved.revision,
        weights_sha256=resolved.weights_sha256,
        new_modules=new_modules,
        max_length=max_length,
        notes=notes + said,
        folder=resolved.folder,
    )


def load_tokenizer_of(name: str) -> tuple[Any, int, PreTrainedConfig]:
    """Return a base model's tokenizer, the most tokens a text may have, and its configuration,
    without its weights.

    Raises:
        ModelError: the model cannot be found, or has no tokenizer.
    """
    folder = resolve(name).folder
    config = _config(folder)
    tokenizer = load_tokenizer(folder, config)
    complete_pad(tokenizer, config)
    complete_segments(tokenizer, config)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    limits = [int(tokenizer.model_max_length)]
    if isinstance(positions, int) and positions > 0:
        limits.append(positions)
    return tokenizer, min(limits), config


def _config(folder: Path) -> PreTrainedConfig:
    try:
        with quiet():
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except (*_BAD_CONFIG, OSError, ValueError) as error:
        raise ModelError(
            f"{folder / 'config.json'}: Transformers cannot build a model from it",
            found=" ".join(str(error).split())[:300],
            mend="a model whose architecture is part of Transformers; code that comes with a "
            "model is never run",
        ) from None
    if getattr(config, "quantization_config", None):
        raise ModelError(
            f"{folder}: the weights are quantised, and such weights cannot be trained beside",
            found=f"quantization_config: {config.quantization_config}"[:200],
            mend="take the model's original weights; `train.precision` saves memory",
        )
    return config


def _seeded(seed: int, make: Callable[[], Any]) -> Any:
    """Run `make` quietly under `seed`, without a trace in the global random state."""
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def _load_weights(
    folder: Path, auto: Any, config: PreTrainedConfig, dtype: str
) -> tuple[PreTrainedModel, dict[str, Any]]:
    try:
        return auto.from_pretrained(
            folder,
            config=config,
            dtype=_DTYPES[dtype],
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # ours to judge, below
            output_loading_info=True,
        )
    except (MemoryError, RuntimeError, OSError, ValueError, LookupError, SafetensorError) as error:
        if isinstance(error, MemoryError) or "not enough memory" in str(error):
            size = sum(path.stat().st_size for path in check_folder(folder))
            raise ResourceError(
                f"{folder}: the model does not fit into memory",
                found=f"weights of {size / 1e6:,.0f} MB",
                mend="a smaller model (`lightune models`), or a machine with more memory",
            ) from None
        raise ModelError(
            f"{folder}: the weights cannot be loaded",
            found=" ".join(f"{type(error).__name__}: {error}".split())[:300],
            mend="fetch the model again, or check that config.json belongs to the weights",
        ) from None


def _new_keys(model: PreTrainedModel, info: dict[str, Any], folder: Path) -> set[str]:
    """Return the tensors that were not loaded; refuse when any of them is the encoder's."""
    missing = set(info["missing_keys"])
    misshapen = {name: shapes for name, *shapes in info["mismatched_keys"]}
    blocks = tuple(f"{path}." for path in block_paths(model))
    inner = f"{model.base_model_prefix}." if model.base_model is not model else blocks
    essential = sorted(
        key
        for key in missing | misshapen.keys()
        if "." not in key
        or key.startswith(blocks)
        or (key.startswith(inner) and "pooler" not in key.split("."))
    )
    if not essential:
        return missing | misshapen.keys()
    bad = [key for key in essential if key in misshapen]
    shapes = "; ".join(
        f"{key} is {tuple(misshapen[key][0])} in the file, {tuple(misshapen[key][1])} in the model"
        for key in bad[:3]
    )
    raise ModelError(
        f"{folder}: the checkpoint does not hold the whole {type(model).__name__}",
        found=shapes
        or f"{len(essential)} of {len(model.state_dict())} tensors missing: {_few(essential)}",
        mend="the config.json and the weights must come from one model; fetch it again",
    )


def _check_vocabulary(model: PreTrainedModel, new_keys: set[str], folder: Path) -> None:
    """Refuse a language model whose output layer would be random: it would write noise."""
    if new_keys:
        raise ModelError(
            f"{folder}: the checkpoint has no output layer of a {type(model).__name__}",
            found=f"missing: {_few(sorted(new_keys))}",
            mend="the checkpoint of the whole language model, not of its body alone",
        )


def _vocabulary_rules(model: PreTrainedModel) -> GenerationConfig:
    """Return of the checkpoint's settings those without which it writes what it never learnt:
    the decoder's first tokens, and tokens that are no part of any text."""
    own, rules = model.generation_config, GenerationConfig()
    for name in ("decoder_start_token_id", "forced_bos_token_id", "bad_words_ids"):
        value = getattr(own, name, None)
        value = getattr(model.config, name, None) if value is None else value
        if value is not None:
            setattr(rules, name, value)
    return rules


def _output_layer(model: PreTrainedModel, auto: Any) -> set[str]:
    """Return the tensors whose shape follows the number of labels."""
    config = copy.deepcopy(model.config)
    config.num_labels = model.config.num_labels + 1
    with torch.device("meta"):
        wider = dict(auto.from_config(config).named_parameters())
    return {name for name, p in model.named_parameters() if p.shape != wider[name].shape}


def _replace(model: PreTrainedModel, keys: Iterable[str], donor: PreTrainedModel) -> None:
    for key in keys:
        old = model.get_parameter(key)
        old.data = donor.get_parameter(key).data.to(old.dtype)


def _owners(model: PreTrainedModel, keys: set[str]) -> tuple[str, ...]:
    """Return the largest modules all of whose parameters are among `keys`, in model order."""
    whole: list[str] = []
    for path, module in model.named_modules():
        inside = [f"{path}.{name}" for name, _ in module.named_parameters()]
        covered = any(path.startswith(f"{other}.") for other in whole)
        if path and inside and not covered and keys.issuperset(inside):
            whole.append(path)
    rest = {
        key.rpartition(".")[0] for key in keys if not key.startswith(tuple(f"{w}." for w in whole))
    }
    order = {path: index for index, (path, _) in enumerate(model.named_modules())}
    return tuple(sorted({*whole, *rest}, key=order.__getitem__))


def _notes_of_tensors(model: PreTrainedModel, info: dict[str, Any]) -> list[str]:
    notes = []
    if unused := sorted(info["unexpected_keys"]):
        notes.append(f"{len(unused)} tensors of the checkpoint have no use here: {_few(unused)}")
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    tied = [" = ".join(same) for same in names.values() if len(same) > 1]
    if tied:
        notes.append(f"tied weights: {_few(tied)}")
    return notes


def _few(names: Iterable[str]) -> str:
    listed = list(names)
    return ", ".join(listed[:4]) + (" …" if len(listed) > 4 else "")
