"""A recipe's parts put together: data read, base loaded, method attached, plan applied.

`assemble` goes up to the first training step and changes nothing on disk, so that `--dry-run`,
training and later comparisons start from the very same place. `reload` brings a finished run's
adapter back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightune.adapters import peft_folder
from lightune.adapters.files import MANIFEST
from lightune.adapters.identity import identity_of, tokenizer_hash
from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import BaseModelId, HeadId, Manifest, describe_method, read_manifest
from lightune.data import overlap
from lightune.data.load import Splits, load_splits
from lightune.data.report import add_lengths
from lightune.engine import token_cache
from lightune.engine.batches import collate
from lightune.engine.plan import Plan, default_device, machine_plan, threads_of
from lightune.engine.prefix import Prefix, find_prefix
from lightune.engine.prepare import prepare
from lightune.errors import AdapterError, ConfigError
from lightune.methods.base import Attachment
from lightune.methods.beside import modules_beside, train_new_modules
from lightune.models.load import Base, load
from lightune.nn import losses
from lightune.predictor import Predictor, pad_id
from lightune.recipe import Recipe
from lightune.runs.folder import RunFolder
from lightune.train.batch_fit import with_fitting_batch
from lightune.train.loop import to_device
from lightune.train.memory import collector_off, give_back
from lightune.types import Batch, Example, HeadSpec

LONGEST_BY_DEFAULT = 512
"""Tokens after which an input is cut when neither the recipe nor the model says less."""

Note = Callable[[str], None]


@dataclass(slots=True)
class Job:
    """One training, ready to start.

    Attributes:
        recipe: resolved.
        splits: the records; its report has the token lengths added.
        base: the base model as loaded; `base.model` is what is trained.
        attachments: the method's, then that of the modules trained beside it.
        predictor: the model under its plan, with task, state and tokenizer.
        examples: the tokenised records by split.
        prefix: the model's frozen lower blocks.
        manifest: what the adapter will say of itself.
    """

    recipe: Recipe
    splits: Splits
    base: Base
    attachments: list[Attachment]
    predictor: Predictor
    manifest: Manifest
    examples: dict[str, list[Example]] = field(default_factory=dict)
    prefix: Prefix = field(init=False)

    @property
    def trainable(self) -> dict[str, nn.Parameter]:
        """`{path: float32 weight}` of everything that is trained."""
        return {path: p for part in self.attachments for path, p in part.trainable.items()}

    @property
    def learning_rate(self) -> float:
        """The peak rate: the recipe's, else the method's own."""
        return self.recipe.train.learning_rate or type(self.recipe.method).learning_rate

    def groups(self) -> list[dict[str, Any]]:
        """Return the optimiser's groups: the method's, and one of the modules beside it."""
        method, beside = self.attachments
        ours = self.recipe.method
        groups = ours.param_groups(method, self.learning_rate)
        rate = ours.rate_beside(self.learning_rate)
        groups.append({"params": list(beside.trainable.values()), "lr": rate})
        return [group for group in groups if group["params"]]

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Make a training batch."""
        task, state, tokenizer = self.recipe.task, self.predictor.state, self.predictor.tokenizer

        def targets(rows: Sequence[Example], width: int) -> torch.Tensor:
            return task.targets(rows, state, width)

        return collate(
            examples,
            pad_id(tokenizer),
            targets,
            multiple=8 if self.predictor.prepared.plan.device == "cuda" else 1,
            max_length=self.predictor.max_length,
        )

    def loss(self, batch: Batch) -> torch.Tensor:
        """Return the loss of a training batch that is still on the CPU."""
        task, state = self.recipe.task, self.predictor.state
        moved = to_device(batch, self.predictor.prepared.plan.device)
        return task.loss(task.forward(self.base.model, moved, state), moved, state)

    def some_batches(self) -> list[Batch]:
        """Return a short and a long training example, together and then each alone."""
        by_length = sorted(self.examples["train"][:64], key=len)
        chosen = [by_length[0], by_length[-1]]
        return [self.collate(chosen), *(self.collate([example]) for example in chosen)]

    def validation_scores(self) -> dict[str, float]:
        """Return the scores on the validation records, without intervals."""
        task, state = self.recipe.task, self.predictor.state
        predictions = self.predictor.predict(self.examples["validation"], purpose="validation")
        scores = task.score(predictions, self.splits.validation, state, intervals=False)
        return {name: score.value for name, score in scores.metrics.items()}

    def loop_arguments(self) -> dict[str, Any]:
        """Return what `train.loop.fit` and `train.forecast.forecast` both take."""
        return {
            "model": self.base.model,
            "task": self.recipe.task,
            "task_state": self.predictor.state,
            "train": self.examples["train"],
            "spec": self.recipe.train,
            "trainable": self.trainable,
            "collate": self.collate,
            "plan": self.predictor.prepared.plan,
            "set_mode": self.prefix.set_mode,
        }


@dataclass(frozen=True)
class Sources:
    """Where an assembly has what many of them may share, as the trials of a comparison do.

    Attributes:
        load: the base model, from its name, the head and the seed; its tensors are never written.
        identity: what a base model is known by.
        encode: the tokenised records of one split.
    """

    load: Callable[[str, HeadSpec, int], Base]
    identity: Callable[[Base], BaseModelId]
    encode: Callable[[Job, str, Note], list[Example]]


def assemble(
    recipe: Recipe,
    note: Note,
    plan: Plan | None = None,
    splits: Splits | None = None,
    sources: Sources | None = None,
) -> Job:
    """Do everything that comes before the first training step.

    Args:
        recipe: resolved.
        note: takes each sentence the user should read.
        plan: the one to go on with; None takes this machine's.
        splits: the records, where they are not the recipe's own; its report is added to.
        sources: None takes everything anew.

    Raises:
        LightuneError: whatever is wrong with the data, the model, the method or their fit.
    """
    task, spec = recipe.task, recipe.train
    sources = sources or Sources(load, identity_of, encode_split)
    splits = splits or splits_of(recipe)
    _tell(splits.notes, note)
    if recipe.data.overlap == "refuse" and plan is None:  # what goes on was looked at before
        overlap.refuse(splits.named, "data.overlap")
    recipe = replace(recipe, train=spec.with_horizon(len(splits.train)))
    state = task.learn(splits.train)
    base = sources.load(recipe.model, task.head(state), spec.seed)
    state = task.fit_tokenizer(base.tokenizer, task.fit_model(base.model.config, state))
    _tell(state.get("notes", ()), note)
    _tell(base.notes, note)
    max_length = _max_length(recipe, base, note)
    manifest = _describe(recipe, state, sources.identity(base), max_length)
    attachments = _attach(recipe, base, manifest)
    plan = plan or machine_plan(spec.precision, spec.engine)
    prepared = prepare(base.model, plan, modules_beside(base.model, base.new_modules))
    give_back()
    _tell(prepared.notes, note)
    _tell(losses.choose(base.model, spec.engine.losses), note)
    job = Job(
        recipe=recipe,
        splits=splits,
        base=base,
        attachments=attachments,
        predictor=Predictor(task, state, base.tokenizer, prepared, max_length),
        manifest=manifest,
    )
    for name, records in splits.named.items():
        # what cannot be scored is said now, not after training
        (task.check_test if name == "test" else task.truth)(records, state)
        with collector_off():
            examples = sources.encode(job, name, note)
        lengths, dropped = [len(e) for e in examples], [e.dropped for e in examples]
        add_lengths(splits.report, name, lengths, max_length, dropped)
        job.examples[name] = examples
    with threads_of(plan):
        job.prefix = find_prefix(base.model, job.loss, job.some_batches)
    if spec.batch_size == "auto":
        fitted = with_fitting_batch(**job.loop_arguments(), masters=prepared.pairs)
        part = fitted.engine.micro_batch
        job.recipe = replace(job.recipe, train=fitted)
        note(
            f"batches of {fitted.rows} examples, "
            + (f"computed {part} at a time to fit into memory" if part else "which fit into memory")
        )
    return job


def encode_split(job: Job, split: str, note: Note) -> list[Example]:
    """Tokenise a split, or take it from the cache."""
    records = getattr(job.splits, split)
    if job.recipe.train.engine.token_cache == "off":
        return job.predictor.encode(records)
    decided_by = {
        "records": job.splits.report["splits"][split]["sha256"],
        "task": [type(job.recipe.task).__module__, job.manifest.task],
        "state": job.predictor.state,
        "tokenizer": job.manifest.base.tokenizer_sha256,
        "max_length": job.predictor.max_length,
    }
    return token_cache.encoded(lambda: job.predictor.encode(records), decided_by, note)


def splits_of(recipe: Recipe) -> Splits:
    """Read and split the recipe's data, the same way each time.

    Raises:
        DataError: the data cannot be read, or cannot train this task.
    """
    task, spec = recipe.task, recipe.train
    with collector_off():
        return load_splits(
            recipe.data,
            task.fields,
            task.columns(),
            seed=spec.seed,
            want_validation=spec.evaluation.needs_records,
            multi_label=task.several_labels(),
            check=task.check,
        )


def reload(folder: RunFolder, recipe: Recipe, note: Note, force: bool = False) -> Predictor:
    """Bring a finished run's model back as it was: same base, adapter and plan.

    Args:
        force: accept a base model whose tensors differ from those of training.

    Raises:
        AdapterError, ModelError: the adapter or its base is not what it was.
    """
    saved = read_manifest(folder.adapter)
    task = recipe.task
    base = load(recipe.model, task.head(saved.state), seed=recipe.train.seed)
    if not force:
        _check_tokenizer(folder.adapter, saved, base)
    _, manifest = load_adapter(folder.adapter, base.model, base.hash(), force)
    plan = Plan.model_validate(folder.read(folder.environment)["plan"])
    if plan.device != "cpu" and plan.device != default_device():
        note(f"the run used {plan.device}, which is not here: scores may differ in the last digits")
        plan = machine_plan(engine=recipe.train.engine)
    prepared = prepare(base.model, plan, modules_beside(base.model, base.new_modules))
    losses.choose(base.model, recipe.train.engine.losses)
    state = task.fit_tokenizer(base.tokenizer, manifest.state)
    return Predictor(task, state, base.tokenizer, prepared, manifest.max_length or base.max_length)


def _tell(notes: Sequence[str], note: Note) -> None:
    for sentence in notes:
        note(sentence)


def _max_length(recipe: Recipe, base: Base, note: Note) -> int:
    wanted, taken = recipe.train.max_length, recipe.method.room(base.model)
    longest = base.max_length - taken
    if longest < 1 or (wanted or 0) > longest:
        less = f", of which `{recipe.method.name}` takes {taken}" if taken else ""
        raise ConfigError(
            f"train.max_length: {base.name} reads at most {base.max_length} tokens{less}",
            found=f"max_length: {wanted}",
            mend=f"`max_length: {longest}` or less, or a model that reads longer texts"
            if longest > 0
            else "fewer `method.tokens`, or a model that reads longer texts",
        )
    if wanted is None and taken and longest < LONGEST_BY_DEFAULT:
        note(
            f"{recipe.method.name} takes {taken} of the {base.max_length} tokens that {base.name} "
            f"reads: texts may have {longest}"
        )
    return min(longest, LONGEST_BY_DEFAULT) if wanted is None else wanted


def _describe(
    recipe: Recipe, state: Mapping[str, Any], base: BaseModelId, max_length: int
) -> Manifest:
    """Return the manifest as it stands before training; scores are added at the end."""
    head = recipe.task.head(dict(state))
    return Manifest(
        base=base,
        method=describe_method(recipe.method),
        task={"name": recipe.task.name, **recipe.task.model_dump(mode="json")},
        state=dict(state),
        head=HeadId(kind=head.kind, labels=head.labels, multi_label=head.multi_label),
        max_length=max_length,
    )


def _check_tokenizer(adapter: Path, manifest: Manifest, base: Base) -> None:
    """Refuse a base whose tokenizer would give the trained weights other ids than they learnt.

    Raises:
        AdapterError: the two fingerprints differ.
    """
    expected, found = manifest.base.tokenizer_sha256, tokenizer_hash(base.tokenizer)
    if expected is not None and expected != found:
        raise AdapterError(
            f"{adapter} was trained with another tokenizer than that of {base.name}",
            found=f"the adapter's tokenizer: {expected[:16]}…; this one: {found[:16]}…",
            mend=f"put the tokenizer files of {manifest.base.source} beside the weights again",
        )


def _attach(recipe: Recipe, base: Base, manifest: Manifest) -> list[Attachment]:
    """Attach the method and the modules beside it, anew or from an earlier run."""
    start = recipe.train.from_run
    if start is not None:
        return _attach_from(Path(start), recipe, base, manifest)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.train.seed)
        beside = train_new_modules(base.model, base.new_modules)
        return [recipe.method.with_tokenizer(base.tokenizer).attach(base.model), beside]


def _attach_from(start: Path, recipe: Recipe, base: Base, manifest: Manifest) -> list[Attachment]:
    folder = start / "adapter" if (start / "adapter").is_dir() else start
    if peft_folder.is_one(folder) and not (folder / MANIFEST).exists():
        method = recipe.method.with_tokenizer(base.tokenizer)
        return load_adapter(folder, base.model, None, method=method)[0]
    earlier = read_manifest(folder)
    differences = [
        f"{what} was {old}, and the recipe says {new}"
        for what, old, new in (
            ("method", earlier.method, manifest.method),
            ("labels", earlier.state.get("labels"), manifest.state.get("labels")),
        )
        if old != new
    ]
    if differences:
        raise ConfigError(
            f"train.from: {start} cannot be trained on with this recipe",
            found="; ".join(differences),
            mend="give the recipe the same method settings and data with the same labels",
        )
    attachments, _ = load_adapter(folder, base.model, base.hash())
    return attachments
