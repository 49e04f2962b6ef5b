"""Prompts and prefixes that PEFT trained, with and without a network: equal logits here."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from lightune.adapters.load import load_adapter
from lightune.adapters.onto_base import onto_base
from lightune.errors import AdapterError, LightuneError
from lightune.models.tiny_kinds import KINDS
from tests.adapters.test_peft_in import ROWS, WEIGHTS, logits, made

peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

TOKENS = 3
CONFIGS = {
    "prompt_tuning": lambda **common: peft.PromptTuningConfig(**common),
    "p_tuning": lambda **common: peft.PromptEncoderConfig(encoder_hidden_size=8, **common),
    "prefix_tuning": lambda **common: peft.PrefixTuningConfig(**common),
    "prefix_tuning, with a network": lambda **common: peft.PrefixTuningConfig(
        prefix_projection=True, encoder_hidden_size=8, **common
    ),
}


def prompted(folder, kind, name):
    """Write a folder with PEFT; return PEFT's model."""
    task = "SEQ_CLS" if KINDS[kind].classifies else "CAUSAL_LM"
    return made(folder, kind, CONFIGS[name](task_type=task, num_virtual_tokens=TOKENS))


@pytest.mark.parametrize("kind", ["bert", "gpt2", "qwen2", "llama-lm"])
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_peft(tmp_path, kind, name):
    theirs = prompted(tmp_path, kind, name)
    base = KINDS[kind].build()
    before = logits(base, kind)
    _, manifest = load_adapter(tmp_path, base, None)
    ours, expected = logits(base, kind), logits(theirs, kind)
    if not KINDS[kind].classifies:
        expected = expected[:, -len(ROWS[0]) :]  # PEFT gives the prompt's own places out too
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    assert (ours - before).abs().max() > 1e-3
    assert manifest.method["name"] == name.partition(",")[0]
    assert manifest.method["tokens"] == TOKENS


def test_the_number_of_classes_is_read_off_the_head(tmp_path, tiny):
    theirs = prompted(tmp_path, "bert", "prompt_tuning")
    loaded = onto_base(tmp_path, lambda text: None, model=str(tiny("bert")))
    assert len(loaded.manifest.head.labels) == theirs.config.num_labels


def change(folder, **settings) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("prompt_tuning", "t5", "encoder–decoder"),
        ("p_tuning", "bart-seq2seq", "encoder–decoder"),
        ("prefix_tuning", "t5", "no filled cache"),
        ("prefix_tuning", "deberta", "computes its attention itself"),
        ("prompt_tuning", "vit", "reads none"),
    ],
)
def test_a_model_that_peft_prompts_in_another_way_is_refused(tmp_path, name, kind, reason):
    prompted(tmp_path, "bert", name)
    with pytest.raises(LightuneError) as error:
        load_adapter(tmp_path, KINDS[kind].build(), None)
    assert reason in f"{error.value.problem} {error.value.found}"
    assert error.value.mend


def test_a_prefix_of_other_heads_is_refused(tmp_path):
    prompted(tmp_path, "bert", "prefix_tuning")
    change(tmp_path, num_attention_heads=1)
    with pytest.raises(AdapterError, match="not built here") as error:
        load_adapter(tmp_path, KINDS["bert"].build(), None)
    assert "num_attention_heads 1, here" in error.value.found


def test_a_prompt_of_another_width_and_a_file_without_one_are_refused(tmp_path):
    prompted(tmp_path, "bert", "prompt_tuning")
    tensors = load_file(tmp_path / WEIGHTS)
    prompt = tensors.pop("prompt_embeddings")
    save_file(tensors | {"prompt_embeddings": prompt[:, 1:].clone()}, tmp_path / WEIGHTS)
    with pytest.raises(AdapterError) as error:
        load_adapter(tmp_path, KINDS["bert"].build(), None)
    assert "prompt_embeddings" in error.value.found
    for odd in ({"prompt_embeddings": torch.ones(())}, {"x.prompt_embeddings.y": prompt}):
        save_file(tensors | odd, tmp_path / WEIGHTS)
        with pytest.raises(AdapterError, match="holds no prompt"):
            load_adapter(tmp_path, KINDS["bert"].build(), None)
    save_file(tensors, tmp_path / WEIGHTS)
    with pytest.raises(AdapterError, match="no tensors of its method"):
        load_adapter(tmp_path, KINDS["bert"].build(), None)
