"""Saving: whole or not at all, never over another, float32 whatever the model computed in."""

import copy
import json
import os

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lightune.adapters import save
from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import BaseModelId, HeadId, Manifest, describe_method
from lightune.adapters.save import save_adapter
from lightune.errors import AdapterError, ResourceError
from lightune.methods.base import Attachment
from lightune.methods.beside import train_new_modules
from lightune.methods.full import Full
from lightune.methods.head import Head
from lightune.methods.lora import LoRA
from lightune.models.tiny import FAMILIES
from lightune.nn.surgery import Surgery
from lightune.types import HeadSpec

LABELS = ("好评", "差评")
HEAD = HeadSpec("sequence_classification", LABELS)
IDS = torch.tensor([[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]])


def build(family: str = "bert") -> nn.Module:
    return FAMILIES[family](HEAD, 0)[0]


def tune(model: nn.Module, method) -> list[Attachment]:
    beside = train_new_modules(model, ())
    parts = [method.attach(model), beside]
    torch.manual_seed(3)
    with torch.no_grad():
        for part in parts:
            for parameter in part.trainable.values():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return parts


def manifest_of(method) -> Manifest:
    head = HeadId(kind="sequence_classification", labels=LABELS)
    return Manifest(method=describe_method(method), head=head, base=BaseModelId(name="tiny"))


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


@pytest.mark.parametrize(
    ("method", "files"),
    [
        (LoRA(), ["adapter_config.json", "adapter_model.safetensors", "lightune.json"]),
        (Head(), ["adapter_model.safetensors", "lightune.json"]),
    ],
    ids=["lora", "head"],
)
def test_the_layout_and_nothing_else_is_left(tmp_path, method, files):
    model = build()
    save_adapter(tmp_path / "runs" / "adapter", model, tune(model, method), manifest_of(method))
    assert sorted(entry.name for entry in (tmp_path / "runs").iterdir()) == ["adapter"]
    assert sorted(e.name for e in (tmp_path / "runs" / "adapter").iterdir()) == files


@pytest.mark.parametrize("family", FAMILIES)
def test_full_is_saved_as_a_model_that_transformers_loads(tmp_path, family):
    model = build(family)
    config = copy.deepcopy(model.config.to_dict())
    parts = tune(model, Full())
    folder = tmp_path / "model"
    save_adapter(folder, model, parts, manifest_of(Full()))
    assert model.config.to_dict() == config
    loaded = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    torch.testing.assert_close(logits(loaded), logits(model), rtol=0, atol=0)
    assert loaded.config.id2label == dict(enumerate(LABELS))
    assert loaded.config.label2id == {label: i for i, label in enumerate(LABELS)}


def test_full_is_saved_with_its_tokenizer(tmp_path):
    model, tokenizer = FAMILIES["bert"](HEAD, 0)
    manifest = save_adapter(
        tmp_path / "model", model, tune(model, Full()), manifest_of(Full()), tokenizer
    )
    again = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert again("a good film")["input_ids"] == tokenizer("a good film")["input_ids"]
    assert "tokenizer.json" in manifest.files


def test_weights_are_saved_in_float32_when_the_model_computes_in_bfloat16(tmp_path):
    """Existing weights are trained as float32 masters with images in the model."""
    model = build()
    parts = tune(model, Full())
    trained = {path: p.detach().clone() for part in parts for path, p in part.trainable.items()}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(parameter.detach().bfloat16())
    save_adapter(tmp_path / "model", model, parts, manifest_of(Full()))
    saved = load_file(tmp_path / "model" / "model.safetensors")
    assert saved.keys() == trained.keys()
    assert all(torch.equal(saved[path], trained[path]) for path in trained)
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "float32"


@pytest.mark.parametrize("method", [LoRA(), Full(), Head()], ids=["lora", "full", "head"])
def test_given_tensors_take_the_place_of_the_parameters(tmp_path, method):
    model = build()
    parts = tune(model, method)
    best = {p: torch.full_like(t, 0.5) for part in parts for p, t in part.trainable.items()}
    save_adapter(tmp_path / "adapter", model, parts, manifest_of(method), tensors=best)
    again = build()
    loaded, _ = load_adapter(tmp_path / "adapter", again, None)
    values = [t for part in loaded for t in part.trainable.values()]
    assert values
    assert all(bool((t == 0.5).all()) for t in values)


def test_tensors_given_in_low_precision_are_written_in_float32(tmp_path):
    model = build()
    parts = tune(model, LoRA())
    low = {p: t.detach().bfloat16() for part in parts for p, t in part.trainable.items()}
    save_adapter(tmp_path / "adapter", model, parts, manifest_of(LoRA()), tensors=low)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}


def test_equal_adapters_are_equal_byte_for_byte(tmp_path):
    for name in ("first", "second"):
        model = build()
        torch.manual_seed(0)
        save_adapter(tmp_path / name, model, tune(model, LoRA()), manifest_of(LoRA()))
    for file in (tmp_path / "first").iterdir():
        assert file.read_bytes() == (tmp_path / "second" / file.name).read_bytes()


@pytest.mark.parametrize("kind", ["folder", "empty folder", "file", "dangling link"])
def test_what_is_there_is_never_overwritten(tmp_path, kind):
    target = tmp_path / "adapter"
    if kind == "file":
        target.write_text("precious")
    elif kind == "dangling link":
        target.symlink_to(tmp_path / "nowhere")
    else:
        target.mkdir()
        if kind == "folder":
            (target / "precious").write_text("precious")
    model = build()
    parts = tune(model, LoRA())
    with pytest.raises(AdapterError, match="never overwritten"):
        save_adapter(target, model, parts, manifest_of(LoRA()))
    assert [entry.name for entry in tmp_path.iterdir()] == ["adapter"]


def test_nothing_trained_is_an_error(tmp_path):
    model = build()
    empty = Attachment(Surgery(model), {}, "tensors")
    with pytest.raises(AdapterError, match="nothing to save"):
        save_adapter(tmp_path / "adapter", model, [empty], manifest_of(Head()))


@pytest.mark.parametrize("step", ["tensors", "json", "fsync"])
def test_a_full_disk_is_said_and_leaves_nothing_behind(tmp_path, monkeypatch, step):
    def full(*args, **kwargs):
        raise OSError(28, os.strerror(28))

    name = {"tensors": "save_file", "json": "_write_json", "fsync": "_fsync"}[step]
    monkeypatch.setattr(save, name, full)
    model = build()
    parts = tune(model, LoRA())
    with pytest.raises(ResourceError, match="disk is full"):
        save_adapter(tmp_path / "adapter", model, parts, manifest_of(LoRA()))
    assert list(tmp_path.iterdir()) == []


def test_a_model_folder_whose_untrained_tensors_differ_is_refused(tmp_path):
    """A buffer of the base (counts, statistics) is not trained, so it must be the base's own."""
    model = build()
    model.register_buffer("seen", torch.ones(2))
    parts = tune(model, Full())
    save_adapter(tmp_path / "model", model, parts, manifest_of(Full()))
    again = build()
    again.register_buffer("seen", torch.zeros(2))
    with pytest.raises(AdapterError, match="not trained") as error:
        load_adapter(tmp_path / "model", again, None)
    assert error.value.found == "seen"
    again.seen.fill_(1)
    load_adapter(tmp_path / "model", again, None)
