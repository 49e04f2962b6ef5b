"""Silent failures of the field: each is first shown in PEFT, then refused or done right here.

Every refusal must name the mend.
"""

import copy
import warnings

import pytest
import torch
from torch import nn
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
)

from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import BaseModelId, Manifest, describe_method
from lightune.adapters.merge import merged_state
from lightune.adapters.save import save_adapter
from lightune.errors import AdapterError, MethodError, ModelError, RunError, TargetError
from lightune.methods.base import methods
from lightune.methods.beside import modules_beside, train_new_modules
from lightune.methods.combined import Combined
from lightune.methods.lora import LoRA
from lightune.models.hashing import base_hash
from lightune.models.tiny import build
from lightune.models.tokenizer import check_fit
from lightune.train.guards import count_targets, some_targets
from lightune.types import Batch, HeadSpec

peft = pytest.importorskip("peft", reason="shows the faults; pip install 'lightune[test]'")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

IDS = torch.tensor([[5, 9, 13, 21, 7, 3]])


def distilbert() -> nn.Module:
    sizes = {"vocab_size": 50, "dim": 16, "hidden_dim": 32, "n_layers": 1, "n_heads": 2}
    torch.manual_seed(0)
    model = DistilBertForSequenceClassification(DistilBertConfig(**sizes))
    return model.eval().requires_grad_(False)


def llama(layers: int = 2, seed: int = 0, tied: bool = False) -> nn.Module:
    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    config = LlamaConfig(
        vocab_size=50, num_hidden_layers=layers, tie_word_embeddings=tied, pad_token_id=0, **sizes
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


def in_peft(model: nn.Module, **config) -> tuple[nn.Module, list[str]]:
    """Attach PEFT's LoRA; return the model and what was warned of."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        adapted = peft.get_peft_model(copy.deepcopy(model), peft.LoraConfig(**config))
    return adapted, [str(w.message) for w in said if issubclass(w.category, UserWarning)]


def trained(model: nn.Module, word: str) -> bool:
    return any(p.requires_grad for name, p in model.named_parameters() if word in name)


def saved(folder, model: nn.Module, method=None) -> None:
    method = method or LoRA(targets=["q_proj"])
    digest = base_hash(model)
    part = method.attach(model)
    with torch.no_grad():
        for parameter in part.trainable.values():
            parameter.normal_()
    manifest = Manifest(
        method=describe_method(method), base=BaseModelId(name="tiny", tensors_sha256=digest)
    )
    save_adapter(folder, model, [part], manifest)
    part.detach()


def test_1_a_layer_is_trained_because_its_name_sounds_like_a_head():
    adapted, _ = in_peft(distilbert(), task_type="SEQ_CLS", target_modules=["q_lin"])
    assert trained(adapted, "pre_classifier"), "PEFT: it ends in `classifier`"

    model = distilbert()
    assert modules_beside(model, ["classifier"]) == ("classifier",), "it came with the checkpoint"
    assert modules_beside(model, ["pre_classifier"]) == ("pre_classifier", "classifier")


def test_2_without_a_task_type_the_random_head_stays_frozen():
    adapted, said = in_peft(distilbert(), target_modules=["q_lin"])
    assert not trained(adapted, "classifier")
    assert not said

    model = distilbert()
    beside = train_new_modules(model, ["pre_classifier", "classifier"])
    LoRA(targets=["q_lin"]).attach(model)
    assert trained(model, "classifier.weight")
    assert beside.modules == ("pre_classifier", "classifier")


def test_3_one_target_of_two_is_misspelt():
    adapted, said = in_peft(llama(), target_modules=["q_proj", "v_projj"])
    assert not trained(adapted, "v_proj")
    assert not said

    with pytest.raises(TargetError, match="v_projj") as error:
        LoRA(targets=["q_proj", "v_projj"]).attach(llama())
    assert "v_proj" in error.value.mend


def test_4_a_module_to_train_whole_is_misspelt():
    _, said = in_peft(llama(), target_modules=["q_proj"], modules_to_save=["lm_hed"])
    assert not said

    with pytest.raises(MethodError, match="lm_hed") as error:
        train_new_modules(llama(), ["lm_hed"])
    assert "'lm_head'" in error.value.mend


def test_5_a_tied_output_layer_is_merged_into_the_embedding_too():
    model = llama(tied=True)
    adapted, _ = in_peft(model, target_modules=["lm_head"])
    nn.init.normal_(adapted.base_model.model.lm_head.lora_B["default"].weight)
    before = adapted(IDS).logits
    merged = adapted.merge_and_unload()
    assert (merged(IDS).logits - before).abs().max() > 1

    part = LoRA(targets=["lm_head"]).attach(model)
    nn.init.normal_(part.trainable["lm_head.B"])
    before = model(IDS).logits
    with pytest.raises(AdapterError, match="tied") as error:
        merged_state(model, [part])
    assert "untie" in error.value.mend
    untied = llama(tied=False, seed=1)
    untied.load_state_dict(merged_state(model, [part], untie=True))
    torch.testing.assert_close(untied(IDS).logits, before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["prompt_tuning", "p_tuning", "prefix_tuning"])
def test_6_prompts_do_not_enter_distilbert(name):
    config = {
        "prompt_tuning": peft.PromptTuningConfig,
        "p_tuning": peft.PromptEncoderConfig,
        "prefix_tuning": peft.PrefixTuningConfig,
    }[name](task_type="SEQ_CLS", num_virtual_tokens=3)
    with pytest.raises(ValueError, match="token_dim"):
        peft.get_peft_model(distilbert(), config)

    model = distilbert()
    part = methods()[name](tokens=3).attach(model)
    model(input_ids=IDS).logits.sum().backward()
    assert all(p.grad is not None for p in part.trainable.values())


def test_7_a_prefix_and_checkpointing_end_in_a_riddle():
    config = peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3)
    theirs = peft.get_peft_model(llama(), config).train()
    theirs.base_model.activation_checkpointing_enable({"use_reentrant": False})
    with pytest.raises((RuntimeError, ValueError)):
        theirs(input_ids=IDS, labels=IDS).loss.backward()

    model = llama().train()
    part = methods()["prefix_tuning"](tokens=3).attach(model)
    losses = []
    for on in (False, True):
        if on:
            model.activation_checkpointing_enable({"use_reentrant": False})
        loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert all(p.grad is not None for p in part.trainable.values())


def test_8_another_base_of_the_same_shape(tmp_path):
    saved(tmp_path / "a", llama())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        peft.PeftModel.from_pretrained(llama(seed=9), tmp_path / "a")
    assert not [w for w in said if issubclass(w.category, UserWarning)]

    other = llama(seed=9)
    with pytest.raises(AdapterError, match="another base model") as error:
        load_adapter(tmp_path / "a", other, base_hash(other))
    assert "load the base model tiny" in error.value.mend


def test_9_two_blocks_onto_a_model_of_one(tmp_path):
    in_peft(llama(), target_modules=["q_proj"])[0].save_pretrained(tmp_path)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        peft.PeftModel.from_pretrained(llama(layers=1), tmp_path)
    assert not [w for w in said if issubclass(w.category, UserWarning)]

    with pytest.raises(AdapterError, match="does not have") as error:
        load_adapter(tmp_path, llama(layers=1), None)
    assert "layers.1" in error.value.found
    assert error.value.mend


def test_10_another_prefix_leaves_the_adapter_random(tmp_path):
    from safetensors.torch import load_file, save_file

    theirs, _ = in_peft(llama(), target_modules=["v_proj"])
    for layer in theirs.base_model.model.model.layers:
        nn.init.normal_(layer.self_attn.v_proj.lora_B["default"].weight)
    theirs.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    tensors = {
        n.replace(".layers", ".language_model.layers"): t for n, t in load_file(file).items()
    }
    save_file(tensors, file)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        broken = peft.PeftModel.from_pretrained(llama(), tmp_path)
    assert [w for w in said if "missing adapter keys" in str(w.message)], "one warning, no error"
    assert (broken(IDS).logits - theirs(IDS).logits).abs().max() > 1e-4

    model, notes = llama(), []
    load_adapter(tmp_path, model, None, note=notes.append)
    torch.testing.assert_close(model(IDS).logits, theirs(IDS).logits, rtol=0, atol=1e-5)
    assert len(notes) == 1
    assert "language_model" in notes[0]


def test_11_new_tokens_without_trained_or_saved_embeddings(tmp_path):
    grown = llama()
    grown.resize_token_embeddings(60, mean_resizing=False)
    adapted, said = in_peft(grown, target_modules=["q_proj"])
    assert not trained(adapted, "embed_tokens")
    assert not said

    model, tokenizer = build("llama", HeadSpec("sequence_classification", ("no", "yes")))
    tokenizer.add_tokens([f"<new {i}>" for i in range(60)])
    with pytest.raises(ModelError, match="does not belong") as error:
        check_fit(tokenizer, model)
    assert error.value.found
    assert error.value.mend
    saved(tmp_path / "a", llama())
    with pytest.raises(AdapterError, match="another base model"):
        load_adapter(tmp_path / "a", grown, base_hash(grown))


def test_12_and_13_of_two_adapters_on_the_same_layers_one_is_trained():
    """PEFT serves a batch whose rows name their adapters, refuses to train it, and without names
    trains one of the two."""
    adapted, _ = in_peft(llama(), target_modules=["q_proj"])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        adapted.add_adapter("second", peft.LoraConfig(target_modules=["q_proj"]))
    adapted.train()
    with pytest.raises(ValueError, match="adapter_names"):
        adapted(IDS, adapter_names=["second"])
    adapted(IDS).logits.square().sum().backward()
    reached = {name for name, p in adapted.named_parameters() if p.grad is not None}
    assert any(".default." in name for name in reached)
    assert not any(".second." in name for name in reached)
    assert not [w for w in said if issubclass(w.category, UserWarning)]

    both = [{"name": "lora", "targets": ["q_proj"]}, {"name": "lora_plus", "targets": ["q_proj"]}]
    model = llama()
    with pytest.raises(MethodError, match="cannot both change the same layers") as error:
        Combined(methods=both).attach(model)
    assert "q_proj" in error.value.found
    assert "different `targets`" in error.value.mend
    assert not any(p.requires_grad for p in model.parameters())


def test_14_no_label_at_all_gives_a_loss_that_is_no_number():
    labels = torch.full_like(IDS, -100)
    adapted, said = in_peft(llama(), target_modules=["q_proj"])
    assert torch.isnan(adapted(input_ids=IDS, labels=labels).loss)
    assert not said

    batch = Batch({"input_ids": IDS}, labels, [0])
    with pytest.raises(RunError) as error:
        some_targets(count_targets(batch), [], str)
    assert error.value.mend
