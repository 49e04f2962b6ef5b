"""`lightune adapters`: each command on folders of every format, and what it refuses."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import BaseModelId, HeadId, Manifest, describe_method
from lightune.adapters.save import save_adapter
from lightune.cli.main import main
from lightune.methods.base import methods
from lightune.methods.bottleneck import BottleneckAdapter
from lightune.methods.lora import LoRA
from lightune.models.load import load
from lightune.types import HeadSpec

LABELS = ("no", "yes")
IDS = torch.tensor([[5, 9, 13, 21, 7, 3]])


def write(folder: Path, base_folder: Path, method, kind: str = "sequence_classification"):
    """Train nothing, but save as if; return the model."""
    from lightune.methods.beside import train_new_modules

    labels = LABELS if kind == "sequence_classification" else ()
    base = load(str(base_folder), HeadSpec(kind, labels))
    digest = base.hash()
    beside = train_new_modules(base.model, base.new_modules)
    parts = [method.attach(base.model), beside]
    torch.manual_seed(1)
    with torch.no_grad():
        for part in parts:
            for parameter in part.trainable.values():
                parameter.add_(0.2 * torch.randn_like(parameter))
    manifest = Manifest(
        method=describe_method(method),
        head=HeadId(kind=kind, labels=labels),
        base=BaseModelId(name=str(base_folder), tensors_sha256=digest),
    )
    save_adapter(folder, base.model, parts, manifest)
    return base.model, parts


def called(capsys, *words: str) -> tuple[int, dict]:
    status = main(["adapters", *words, "--json"])
    return status, json.loads(capsys.readouterr().out)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def test_show(tmp_path, tiny, capsys):
    write(tmp_path / "a", tiny("bert"), LoRA(rank=3))
    status, page = called(capsys, "show", str(tmp_path / "a"))
    assert status == 0
    shown = page["adapter"]
    assert shown["format"] == "lightune"
    assert shown["labels"] == list(LABELS)
    assert list(shown["ranks"]) == ["3"]
    assert main(["adapters", "show", str(tmp_path / "a")]) == 0
    assert "lora" in capsys.readouterr().out


def test_merge_gives_a_model_that_transformers_loads_alone(tmp_path, tiny, capsys):
    model, _ = write(tmp_path / "a", tiny("bert"), LoRA())
    status, page = called(capsys, "merge", str(tmp_path / "a"), "--out", str(tmp_path / "m"))
    assert status == 0
    assert "model.safetensors" in page["merged"]["files"]
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(logits(merged), logits(model), rtol=0, atol=1e-5)
    assert merged.config.id2label == dict(enumerate(LABELS))


def test_a_tied_output_layer_is_merged_when_it_may_be_untied(tmp_path, tiny, capsys):
    """The embedding stays as it was, and the loaded model equals the unmerged one."""
    method = LoRA(targets=["lm_head"])
    model, _ = write(tmp_path / "a", tiny("gpt2"), method, "causal_lm")
    status, page = called(capsys, "merge", str(tmp_path / "a"), "--out", str(tmp_path / "m"))
    assert status == 2
    assert "untie" in page["error"]["mend"]
    status, _ = called(
        capsys, "merge", str(tmp_path / "a"), "--out", str(tmp_path / "m"), "--untie"
    )
    assert status == 0
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    torch.testing.assert_close(logits(merged), logits(model), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_convert_to_peft_and_back(tmp_path, tiny, capsys):
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    model, _ = write(tmp_path / "a", tiny("bert"), LoRA())
    status, _ = called(
        capsys, "convert", str(tmp_path / "a"), "--to", "peft", "--out", str(tmp_path / "p")
    )
    assert status == 0
    assert sorted(entry.name for entry in (tmp_path / "p").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    plain = AutoModelForSequenceClassification.from_pretrained(tiny("bert"), num_labels=2)
    theirs = peft.PeftModel.from_pretrained(plain, tmp_path / "p")
    torch.testing.assert_close(logits(theirs), logits(model), rtol=0, atol=1e-4)
    words = ("--to", "lightune", "--model", str(tiny("bert")), "--out", str(tmp_path / "b"))
    status, _ = called(capsys, "convert", str(tmp_path / "p"), *words)
    assert status == 0
    base = load(str(tiny("bert")), HeadSpec("sequence_classification", LABELS))
    load_adapter(tmp_path / "b", base.model, base.hash())
    assert torch.equal(logits(base.model), logits(model))


def test_convert_to_adapterhub_and_back(tmp_path, tiny, capsys):
    method = BottleneckAdapter(pooler=False)
    model, _ = write(tmp_path / "a", tiny("bert"), method)
    words = ("--to", "adapterhub", "--out", str(tmp_path / "h"))
    status, page = called(capsys, "convert", str(tmp_path / "a"), *words)
    assert status == 0, page
    words = ("--to", "lightune", "--model", str(tiny("bert")), "--out", str(tmp_path / "b"))
    status, page = called(capsys, "convert", str(tmp_path / "h"), *words)
    assert status == 0, page
    base = load(str(tiny("bert")), HeadSpec("sequence_classification", LABELS))
    load_adapter(tmp_path / "b", base.model, base.hash())
    assert torch.equal(logits(base.model), logits(model))


def test_combine(tmp_path, tiny, capsys):
    write(tmp_path / "a", tiny("bert"), LoRA(rank=3))
    write(tmp_path / "b", tiny("bert"), LoRA(rank=5))
    folders = (str(tmp_path / "a"), str(tmp_path / "b"))
    status, page = called(capsys, "combine", *folders, "--rank", "4", "--out", str(tmp_path / "c"))
    assert status == 0
    made = page["combined"]
    assert (made["rank"], made["weights"]) == (4, [0.5, 0.5])
    assert 0 < made["lost"] < 1
    base = load(str(tiny("bert")), HeadSpec("sequence_classification", LABELS))
    load_adapter(tmp_path / "c", base.model, base.hash())


@pytest.mark.parametrize(
    "words",
    [
        ("show", "nowhere"),
        ("merge", "a", "--out", "a"),
        ("merge", "bottleneck", "--out", "m"),
        ("convert", "a", "--to", "lightune", "--out", "m"),
        ("convert", "a", "--to", "pfet", "--out", "m"),
        ("convert", "a", "--to", "adapterhub", "--out", "m"),
        ("convert", "bottleneck", "--to", "peft", "--out", "m"),
        ("combine", "a", "--out", "m"),
        ("combine", "a", "a", "--weights", "x,y", "--out", "m"),
        ("combine", "a", "a", "--weights", "1", "--out", "m"),
        ("combine", "a", "a", "--rank", "0", "--out", "m"),
        ("combine", "a", "bottleneck", "--out", "m"),
        ("merge", "a", "--model", "no/such/model", "--out", "m"),
    ],
)
def test_bad_input_exits_2_with_a_mend(tmp_path, tiny, capsys, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a", tiny("bert"), LoRA())
    write(tmp_path / "bottleneck", tiny("bert"), methods()["bottleneck"]())
    status, page = called(capsys, *words)
    assert status == 2
    assert page["error"]["mend"]
    assert not (tmp_path / "m").exists()
