"""Folders that PEFT wrote and we did not: every form of LoRA, old names, moved names; equal logits.

The folders are made here with PEFT's own code. What a file says by regular expressions is read off
its tensors instead.
"""

import copy
import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lightune.adapters.load import load_adapter
from lightune.errors import AdapterError
from lightune.methods.dora import DoRA
from lightune.methods.lora import LoRA
from lightune.models.tiny_kinds import KINDS

peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:.*(Found missing|fan_in)")

ROWS = [[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]]
WEIGHTS = "adapter_model.safetensors"


def made(folder: Path, kind: str, config) -> nn.Module:
    """Write a folder with PEFT, its tensors random as if trained; return PEFT's model."""
    model = peft.get_peft_model(KINDS[kind].build(), config).eval()
    torch.manual_seed(4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad or "lora_" in name:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def logits(model: nn.Module, kind: str) -> torch.Tensor:
    with torch.no_grad():
        return model(**KINDS[kind].inputs(model, ROWS)).logits


LORAS = {
    "regex targets": {"target_modules": r".*\.(query|value)$"},
    "all-linear": {"target_modules": "all-linear"},
    "ranks differ": {
        "target_modules": ["query", "value", "output.dense"],
        "rank_pattern": {"query": 2, "attention.output.dense": 6},
        "alpha_pattern": {"value": 3},
    },
    "exact pattern": {
        "target_modules": ["query"],
        "rank_pattern": {"^bert.encoder.layer.0.attention.self.query": 2},
        "alpha_pattern": {"^bert.encoder.layer.1.attention.self.query": 7},
    },
    "dora": {"target_modules": ["query", "value"], "use_dora": True},
    "rank-stabilised": {"target_modules": ["query"], "use_rslora": True},
    "rank-stabilised dora": {"target_modules": ["key"], "use_rslora": True, "use_dora": True},
    "saved modules": {"target_modules": ["query"], "modules_to_save": ["classifier", "pooler"]},
    "one block": {"target_modules": ["query"], "layers_to_transform": [1]},
}


@pytest.mark.parametrize("settings", LORAS.values(), ids=LORAS)
def test_every_form_of_lora_gives_equal_logits(tmp_path, settings):
    theirs = made(tmp_path, "bert", peft.LoraConfig(task_type="SEQ_CLS", r=4, **settings))
    base = KINDS["bert"].build()
    load_adapter(tmp_path, base, None)
    torch.testing.assert_close(logits(base, "bert"), logits(theirs, "bert"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2-lm", "llama-lm", "phi3-lm", "t5-seq2seq", "vit"])
@pytest.mark.parametrize("dora", [False, True])
def test_other_kinds_of_models_give_equal_logits(tmp_path, kind, dora):
    config = peft.LoraConfig(r=3, target_modules="all-linear", use_dora=dora)
    if kind == "vit":
        config.modules_to_save = ["classifier"]
    theirs = made(tmp_path, kind, config)
    base = KINDS[kind].build()
    load_adapter(tmp_path, base, None)
    torch.testing.assert_close(logits(base, kind), logits(theirs, kind), rtol=0, atol=1e-4)


def test_ia3_gives_equal_logits(tmp_path):
    config = peft.IA3Config(
        task_type="SEQ_CLS",
        target_modules=["key", "value", "intermediate.dense"],
        feedforward_modules=["intermediate.dense"],
    )
    theirs = made(tmp_path, "bert", config)
    base = KINDS["bert"].build()
    _, manifest = load_adapter(tmp_path, base, None)
    assert len(manifest.method["inputs"]) == 2
    torch.testing.assert_close(logits(base, "bert"), logits(theirs, "bert"), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning")
@pytest.mark.parametrize(
    ("kind", "task", "names", "every"),
    [
        ("bert", "SEQ_CLS", ["LayerNorm"], True),
        ("bert", "SEQ_CLS", ["attention.output.LayerNorm"], False),
        ("llama-lm", "CAUSAL_LM", None, True),
        ("llama-lm", "CAUSAL_LM", ["norm", "input_layernorm"], False),
        ("t5-seq2seq", "SEQ_2_SEQ_LM", None, True),
        ("t5-seq2seq", "SEQ_2_SEQ_LM", ["final_layer_norm"], False),
    ],
)
def test_tuned_norms_give_equal_logits(tmp_path, kind, task, names, every):
    theirs = made(tmp_path, kind, peft.LNTuningConfig(task_type=task, target_modules=names))
    base = KINDS[kind].build()
    _, manifest = load_adapter(tmp_path, base, None)
    assert (manifest.method["targets"] is None) == every
    torch.testing.assert_close(logits(base, kind), logits(theirs, kind), rtol=0, atol=1e-5)


def rename(folder: Path, change) -> None:
    """Write the tensors under other names, as another version would."""
    tensors = load_file(folder / WEIGHTS)
    save_file({change(name): t for name, t in tensors.items()}, folder / WEIGHTS)


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.removeprefix("base_model.model."),
        lambda name: name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.x."),
        lambda name: name.replace("classifier.", "classifier.modules_to_save.default."),
        lambda name: name.replace("magnitude_vector", "magnitude_vector.weight"),
    ],
    ids=["no prefix", "adapter's name", "modules_to_save", "magnitude as a layer"],
)
def test_old_names_are_understood(tmp_path, change):
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"], use_dora=True)
    theirs = made(tmp_path, "bert", config)
    rename(tmp_path, change)
    base = KINDS["bert"].build()
    load_adapter(tmp_path, base, None)
    torch.testing.assert_close(logits(base, "bert"), logits(theirs, "bert"), rtol=0, atol=1e-5)


@pytest.mark.parametrize("other", ["model.language_model.", "language_model.model.", ""])
def test_a_moved_prefix_is_mapped_and_said_where_peft_leaves_the_adapter_random(tmp_path, other):
    theirs = made(tmp_path, "llama-lm", peft.LoraConfig(target_modules=["q_proj", "v_proj"]))
    start = "base_model.model."
    rename(tmp_path, lambda name: name.replace(f"{start}model.", f"{start}{other}"))
    base = KINDS["llama-lm"].build()
    if other == "model.language_model.":  # one of the forms that PEFT does not know
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            broken = peft.PeftModel.from_pretrained(copy.deepcopy(base), tmp_path).eval()
        assert len([w for w in said if "missing adapter keys" in str(w.message)]) == 1
        assert torch.equal(logits(broken, "llama-lm"), logits(base, "llama-lm")), (
            "PEFT's is the base"
        )

    notes: list[str] = []
    load_adapter(tmp_path, base, None, note=notes.append)
    torch.testing.assert_close(
        logits(base, "llama-lm"), logits(theirs, "llama-lm"), rtol=0, atol=1e-5
    )
    assert len(notes) == 1
    assert ("language_model" if other else "no prefix in the file") in notes[0]


def test_another_block_is_never_taken_for_a_moved_name(tmp_path):
    """`layers.5` of a deeper model is not `layers.1` of this one."""
    made(tmp_path, "llama-lm", peft.LoraConfig(target_modules=["q_proj"], layers_to_transform=[1]))
    rename(tmp_path, lambda name: name.replace("layers.1.", "layers.5."))
    with pytest.raises(AdapterError, match="adapts layers") as error:
        load_adapter(tmp_path, KINDS["llama-lm"].build(), None)
    assert "layers.5" in error.value.found


def test_an_expression_that_would_decide_the_strength_is_refused_not_run(tmp_path):
    config = peft.LoraConfig(target_modules=["query"], alpha_pattern={r".*layer\.0.*query": 3})
    made(tmp_path, "bert", config)
    with pytest.raises(AdapterError, match="never run") as error:
        load_adapter(tmp_path, KINDS["bert"].build(), None)
    assert "query" in error.value.found
    assert error.value.mend


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen"])
def test_a_folder_with_wrong_tensors_is_refused_with_both_shapes(tmp_path, change):
    made(tmp_path, "bert", peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    tensors = load_file(tmp_path / WEIGHTS)
    name = next(
        name for name in tensors if name.endswith("layer.1.attention.self.query.lora_B.weight")
    )
    if change == "missing":
        del tensors[name]
    elif change == "unexpected":
        tensors[name.replace("lora_B", "lora_C")] = torch.ones(2)
    else:
        tensors[name] = torch.ones(5, 8)
    save_file(tensors, tmp_path / WEIGHTS)
    base = KINDS["bert"].build()
    with pytest.raises(AdapterError) as error:
        load_adapter(tmp_path, base, None)
    expected = {
        "missing": "missing base_model.model.",
        "unexpected": "lora_C",
        "misshapen": "file (5, 8), model (32, 8)",
    }
    assert expected[change] in error.value.found
    assert not any(p.requires_grad for p in base.parameters())


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (LoRA(rank=8, alpha=16, targets=["query"]), "alpha was 8"),
        (DoRA(rank=8, alpha=8, targets=["query"]), "method was lora"),
        (LoRA(rank=8, alpha=8, targets=["key"]), "unexpected"),
    ],
)
def test_training_on_from_a_folder_of_pefts_needs_the_same_method(tmp_path, method, said):
    theirs = made(tmp_path, "bert", peft.LoraConfig(task_type="SEQ_CLS", target_modules=["query"]))
    base = KINDS["bert"].build()
    right = LoRA(rank=8, alpha=8, targets=["attention.self.query"])
    load_adapter(tmp_path, base, None, method=right)
    torch.testing.assert_close(logits(base, "bert"), logits(theirs, "bert"), rtol=0, atol=1e-5)
    with pytest.raises(AdapterError) as error:
        load_adapter(tmp_path, KINDS["bert"].build(), None, method=method)
    assert said in error.value.found


def test_the_config_of_a_stranger_is_never_trusted_for_ranks(tmp_path):
    theirs = made(
        tmp_path, "bert", peft.LoraConfig(task_type="SEQ_CLS", r=4, target_modules=["key"])
    )
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"r": 64, "target_modules": ["x"]}))
    base = KINDS["bert"].build()
    _, manifest = load_adapter(tmp_path, base, None)
    assert manifest.method["rank"] == 4
    torch.testing.assert_close(logits(base, "bert"), logits(theirs, "bert"), rtol=0, atol=1e-5)
