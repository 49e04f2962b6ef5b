"""Folders exchanged with Hugging Face PEFT, both ways, and the faults of PEFT that ours refuses."""

import copy
import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertModel,
    LlamaConfig,
    LlamaForSequenceClassification,
)

from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import BaseModelId, HeadId, Manifest, describe_method
from lightune.adapters.save import save_adapter
from lightune.errors import AdapterError
from lightune.methods.beside import train_new_modules
from lightune.methods.lora import LoRA
from lightune.models.tiny import FAMILIES
from lightune.nn.surgery import find_linears
from lightune.types import HeadSpec

peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

LABELS = ("no", "maybe", "yes")
HEAD = HeadSpec("sequence_classification", LABELS)
IDS = torch.tensor([[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]])


def new_parts(model: nn.Module) -> list[str]:
    """What a checkpoint of the bare base model does not have."""
    children = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    return [name for name in children if list(model.get_submodule(name).parameters())]


def tune(model: nn.Module, method: LoRA, new_modules: list[str]) -> list:
    """Attach and fill with random values, as if trained."""
    beside = train_new_modules(model, new_modules)
    parts = [method.attach(model), beside]
    torch.manual_seed(3)
    with torch.no_grad():
        for part in parts:
            for parameter in part.trainable.values():
                parameter.copy_(0.2 * torch.randn_like(parameter))
    return parts


def manifest_of(method: LoRA, base_hash: str | None = None) -> Manifest:
    return Manifest(
        method=describe_method(method),
        head=HeadId(kind="sequence_classification", labels=LABELS),
        base=BaseModelId(name="tiny", tensors_sha256=base_hash),
    )


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).logits


def peft_loads(folder: Path, base: nn.Module) -> nn.Module:
    """Load with PEFT, which must find every tensor and no other."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = peft.PeftModel.from_pretrained(base, folder).eval()
    assert not [str(w.message) for w in said if "adapter keys" in str(w.message)]
    return model


@pytest.mark.parametrize(
    "method",
    [
        LoRA(),
        LoRA(rank=3, alpha=5.5, rank_stabilized=True),
        LoRA(layers="last-1"),
    ],
    ids=["default", "rank-stabilised", "last block"],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_peft_loads_what_we_save_with_equal_logits(tmp_path, family, method):
    model = FAMILIES[family](HEAD, 0)[0]
    base = tmp_path / "base"
    model.save_pretrained(base)
    parts = tune(model, method, new_parts(model))
    save_adapter(tmp_path / "adapter", model, parts, manifest_of(method))
    plain = AutoModelForSequenceClassification.from_pretrained(base, num_labels=len(LABELS))
    # Another head than the one tuned: that it comes from the adapter must show.
    nn.init.normal_(next(plain.get_submodule(parts[1].modules[-1]).parameters()))
    theirs = peft_loads(tmp_path / "adapter", plain)
    torch.testing.assert_close(logits(theirs), logits(model), rtol=0, atol=1e-4)


def test_peft_loads_an_adapter_of_a_base_whose_checkpoint_has_no_pooler(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    config = BertConfig(vocab_size=50, num_attention_heads=2, **sizes)
    base = tmp_path / "base"
    BertModel(config, add_pooling_layer=False).save_pretrained(base)
    load = AutoModelForSequenceClassification.from_pretrained
    torch.manual_seed(1)
    model = load(base, num_labels=3).eval().requires_grad_(False)
    parts = tune(model, LoRA(), ["bert.pooler", "classifier"])
    save_adapter(tmp_path / "adapter", model, parts, manifest_of(LoRA()))
    saved = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert saved["modules_to_save"] == ["bert.pooler", "classifier"]
    torch.manual_seed(2)  # PEFT's base gets another random pooler and head
    theirs = peft_loads(tmp_path / "adapter", load(base, num_labels=3).eval())
    torch.testing.assert_close(logits(theirs), logits(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("stabilized", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_we_load_what_peft_saves_with_equal_logits(tmp_path, family, stabilized):
    base = FAMILIES[family](HEAD, 0)[0]
    config = peft.LoraConfig(
        task_type="SEQ_CLS",
        r=4,
        lora_alpha=6,
        use_rslora=stabilized,
        target_modules=list(find_linears(base, "all-linear")),
        modules_to_save=new_parts(base),
    )
    theirs = peft.get_peft_model(copy.deepcopy(base), config).eval()
    torch.manual_seed(4)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.copy_(0.2 * torch.randn_like(parameter))
    theirs.save_pretrained(tmp_path)
    parts, manifest = load_adapter(tmp_path, base, None)
    torch.testing.assert_close(logits(base), logits(theirs), rtol=0, atol=1e-4)
    assert manifest.method["rank"] == 4
    heads = [base.get_submodule(path).parameters() for path in new_parts(base)]
    assert len(parts[1].trainable) == sum(len(list(weights)) for weights in heads)


def llama(layers: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=50, num_hidden_layers=layers, num_labels=3, **sizes)
    config.pad_token_id = 0
    return LlamaForSequenceClassification(config).eval().requires_grad_(False)


def silent(record: list) -> bool:
    return not [w for w in record if issubclass(w.category, UserWarning)]


def test_another_base_of_the_same_shape_is_refused_where_peft_is_silent(tmp_path):
    model = llama(1, 0)
    parts = tune(model, LoRA(), ["score"])
    save_adapter(tmp_path / "adapter", model, parts, manifest_of(LoRA(), "a" * 64))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        peft.PeftModel.from_pretrained(llama(1, 9), tmp_path / "adapter")
    assert silent(said)

    other = llama(1, 9)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    for base_hash, found in (("b" * 64, "bbbbbbbbbbbbbbbb"), (None, "no hash given")):
        with pytest.raises(AdapterError, match="another base model") as error:
            load_adapter(tmp_path / "adapter", other, base_hash)
        assert "tiny" in error.value.mend
        assert "aaaaaaaaaaaaaaaa" in error.value.found
        assert found in error.value.found
    assert all(torch.equal(t, before[name]) for name, t in other.state_dict().items())
    load_adapter(tmp_path / "adapter", other, "b" * 64, force=True)


@pytest.mark.parametrize("made_by", ["lightune", "peft"])
def test_an_adapter_of_two_layers_is_refused_by_a_model_of_one_where_peft_is_silent(
    tmp_path, made_by
):
    """PEFT drops the second layer's tensors."""
    if made_by == "lightune":
        model = llama(2, 0)
        parts = tune(model, LoRA(), ["score"])
        save_adapter(tmp_path / "adapter", model, parts, manifest_of(LoRA(), "a" * 64))
    else:
        config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj", "v_proj"])
        peft.get_peft_model(llama(2, 0), config).save_pretrained(tmp_path / "adapter")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        peft.PeftModel.from_pretrained(llama(1, 0), tmp_path / "adapter")
    assert silent(said)

    small = llama(1, 0)
    with pytest.raises(AdapterError) as error:
        load_adapter(tmp_path / "adapter", small, "a" * 64)
    assert "layers.1" in error.value.found
    assert not any(p.requires_grad for p in small.parameters()), "the model is left as it was"


def test_a_head_that_peft_left_out_is_missed_by_name(tmp_path):
    """Without a task type PEFT neither trains nor saves the head."""
    config = peft.LoraConfig(target_modules=["q_proj"])
    peft.get_peft_model(llama(1, 0), config).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="1 tensors differ") as error:
        load_adapter(tmp_path, llama(1, 0), None)
    assert "missing base_model.model.score.weight (3, 16)" in error.value.found


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"lora_bias": True, "target_modules": ["o_proj"]}, "lora_bias"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"bias": "all"}, "bias"),
    ],
)
def test_a_setting_that_changes_the_result_is_refused(tmp_path, settings, named):
    model = llama(1, 0)
    if named == "lora_bias":  # PEFT allows it only where the layer has a bias
        values = {"peft_type": "LORA", "lora_alpha": 8, "lora_bias": True}
        (tmp_path / "adapter_config.json").write_text(json.dumps(values))
    else:
        config = peft.LoraConfig(**{"target_modules": ["q_proj", "v_proj"], **settings})
        peft.get_peft_model(model, config).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="not read here") as error:
        load_adapter(tmp_path, llama(1, 0), None)
    assert named in error.value.found


def test_another_method_of_peft_is_refused(tmp_path):
    config = peft.LoHaConfig(target_modules=["q_proj"])
    peft.get_peft_model(llama(1, 0), config).save_pretrained(tmp_path)
    with pytest.raises(AdapterError, match="method of PEFT") as error:
        load_adapter(tmp_path, llama(1, 0), None)
    assert error.value.found == "peft_type: 'LOHA'"


def test_a_regular_expression_in_a_file_is_never_run(tmp_path):
    config = peft.LoraConfig(task_type="SEQ_CLS", target_modules=["q_proj"])
    peft.get_peft_model(llama(1, 0), config).save_pretrained(tmp_path)
    file = tmp_path / "adapter_config.json"
    bomb = json.loads(file.read_text()) | {"target_modules": "(a+)+$", "exclude_modules": "(x+)+y"}
    file.write_text(json.dumps(bomb))
    parts, manifest = load_adapter(tmp_path, llama(1, 0), None)
    assert manifest.method["targets"] == ["model.layers.0.self_attn.q_proj"]
    assert len(parts[0].trainable) == 2
