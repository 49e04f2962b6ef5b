"""Faults of base models, adapters and runs that elsewhere pass in silence."""

import json
import shutil
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from fault import fault, refused
from ground import Ground, Outcome, labelled, patched
from safetensors.torch import load_file, save_file
from small_runs import lines

from lightune import pipeline, seal
from lightune.adapters.load import load_adapter
from lightune.adapters.merge import merged_state
from lightune.methods.base import methods
from lightune.models.load import load
from lightune.models.tiny import build
from lightune.tasks.classification import Classification
from lightune.types import HeadSpec

CLASSES = HeadSpec("sequence_classification", ("neg", "pos"))


# Base models


def _damaged(ground: Ground, change: Callable[[dict[str, torch.Tensor]], Any]) -> Any:
    """Return the folder of a model whose weights were changed."""
    folder = ground.model("bert", own=True)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    return folder


@fault("a NaN in the weights that are trained", "before", "no numbers")
def _(ground: Ground) -> Outcome:
    def nan(tensors: dict[str, torch.Tensor]) -> None:
        tensors["encoder.layer.1.output.dense.weight"][0, 0] = torch.nan

    return ground.train("full", model=_damaged(ground, nan))


@fault("a NaN in the frozen weights", "while", "step 1: the loss is nan")
def _(ground: Ground) -> Outcome:
    def nan(tensors: dict[str, torch.Tensor]) -> None:
        tensors["encoder.layer.1.output.dense.weight"][0, 0] = torch.nan

    return ground.train(model=_damaged(ground, nan))


@fault("one record whose loss is NaN", "while", "these records alone", "rows.jsonl:7")
def _(ground: Ground) -> Outcome:
    loss = Classification.loss

    def nan(self: Any, outputs: Any, batch: Any, state: Any) -> torch.Tensor:
        found = loss(self, outputs, batch, state)
        return found * float("nan") if 6 in batch.indices else found

    data = {"train": ground.rows("rows", labelled(60)), "test": 0}
    with patched(Classification, "loss", nan):
        return ground.train(data=data, engine={"threads": 1, "prefix_cache": "off"})


@fault("a base model that lacks a tensor", "before", "encoder.layer.1.output.dense.weight")
def _(ground: Ground) -> Outcome:
    return ground.train(
        model=_damaged(ground, lambda t: t.pop("encoder.layer.1.output.dense.weight"))
    )


@fault("weights that are a pickle", "before", "pickle")
def _(ground: Ground) -> Outcome:
    folder = ground.model("bert", own=True)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    return ground.train(model=folder)


@fault("several processes, each training its own copy", "while", "WORLD_SIZE=2")
def _(ground: Ground) -> Outcome:
    with mock.patch.dict("os.environ", {"WORLD_SIZE": "2"}):
        return ground.train()


# Adapters and runs


def _loaded(ground: Ground, model: Any, note: Any = lambda text: None) -> Outcome:
    base = load(str(model), CLASSES)
    return refused(
        "load", lambda: load_adapter(ground.out / "adapter", base.model, base.hash(), note=note)
    )


@fault("an adapter on another base of the same shape", "load", "another base model")
def _(ground: Ground) -> Outcome:
    ground.trained()
    return _loaded(ground, _damaged(ground, lambda tensors: [t.mul_(2) for t in tensors.values()]))


@fault("an adapter of two blocks on a model of one", "load", "another base model")
def _(ground: Ground) -> Outcome:
    ground.trained()
    folder = ground.model("bert", own=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    tensors = load_file(folder / "model.safetensors")
    kept = {name: t for name, t in tensors.items() if "layer.1." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return _loaded(ground, folder)


@fault("an adapter whose bytes changed", "load", "damaged or was changed")
def _(ground: Ground) -> Outcome:
    ground.trained()
    file = ground.out / "adapter" / "adapter_model.safetensors"
    tensors = {name: torch.zeros_like(tensor) for name, tensor in load_file(file).items()}
    save_file(tensors, file)
    return _loaded(ground, ground.model())


@fault("a tied output layer is merged into the embedding too", "merge", "tied", "untie")
def _(ground: Ground) -> Outcome:
    model, _ = build("gpt2", HeadSpec("causal_lm"))
    part = methods()["lora"](targets=["lm_head"]).attach(model.requires_grad_(False))
    return refused("merge", lambda: merged_state(model, [part]))


@fault("merging changes the outputs", "seal", "merged into its base")
def _(ground: Ground) -> Outcome:
    def wrong(model: Any, parts: Any) -> Any:
        return {name: tensor * 1.2 for name, tensor in merged_state(model, parts).items()}

    with patched(seal, "merged_state", wrong):
        return ground.train()


@fault("scores edited by hand", "verify", "eval.json: changed")
def _(ground: Ground) -> Outcome:
    run = ground.trained()
    file = run.folder / "eval.json"
    file.write_text(file.read_text().replace('"value": 0', '"value": 1', 1) + " ")
    return refused("verify", lambda: seal.verify(run.folder, lambda text: None))


@fault("predictions of another run", "verify", "predictions")
def _(ground: Ground) -> Outcome:
    run = ground.trained()
    other = lines(run.folder / "predictions.jsonl")
    for row in other:
        row["scores"] = {name: 1 - value for name, value in row["scores"].items()}
    (run.folder / "predictions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in other))
    (run.folder / "seal.json").unlink()
    return refused("verify", lambda: seal.verify(run.folder, lambda text: None))


def _stopped(ground: Ground, data: str) -> Any:
    """Return a run as a kill after its fourth step leaves it."""
    run = ground.trained(data=data, max_steps=6, save_steps=2)
    for gone in ("eval.json", "seal.json", "checkpoints/step-000000006"):
        path = run.folder / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return run.folder


@fault("other data when a run goes on", "resume", "records of", "changed since it began")
def _(ground: Ground) -> Outcome:
    data = ground.rows("to-change", labelled(60))
    folder = _stopped(ground, data)
    ground.rows("to-change", labelled(60, seed=1))
    return refused("resume", lambda: pipeline.train(resume=folder, progress="silent"))


@fault("an edited recipe when a run goes on", "resume", "method.rank", "then 8, now 4")
def _(ground: Ground) -> Outcome:
    folder = _stopped(ground, ground.rows("kept", labelled(60)))
    file = folder / "recipe.yaml"
    file.write_text(file.read_text().replace("rank: 8", "rank: 4"))
    return refused("resume", lambda: pipeline.train(resume=folder, progress="silent"))
