"""A GGUF file becomes ordinary weights: checked against gguf's own de-quantisation."""

import json
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import quants
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lightune.errors import ModelError
from lightune.models.dequantise import dequantise
from lightune.models.load import load
from lightune.models.quiet import quiet
from lightune.models.tiny import tiny_tokenizer
from lightune.types import HeadSpec

Q4_1 = gguf.GGMLQuantizationType.Q4_1
HEAD = HeadSpec("sequence_classification", ("no", "yes"))


def write_gguf(path: Path) -> dict[str, np.ndarray]:
    """Write a tiny Llama in Q4_1; return each matrix as gguf reads it back."""
    tokenizer = tiny_tokenizer("decoder")
    vocabulary = [t for t, _ in sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])]
    vocabulary[0] = "<|endoftext|>"  # the reader adds it where it is absent
    merges = [" ".join(pair) for pair in _merges(tokenizer)]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if token.startswith("<") else 1 for token in vocabulary])
    writer.add_token_merges(merges)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (len(vocabulary), 32)}
    shapes |= {f"blk.0.attn_{n}": (32, 32) for n in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (64, 32), "blk.0.ffn_up": (64, 32), "blk.0.ffn_down": (32, 64)}
    read_back = {}
    for name, shape in shapes.items():
        packed = quants.quantize(rng.normal(0, 0.1, shape).astype(np.float32), Q4_1)
        writer.add_tensor(f"{name}.weight", packed, raw_dtype=Q4_1)
        read_back[name] = quants.dequantize(packed, Q4_1)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(32, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return read_back


def _merges(tokenizer) -> list[tuple[str, str]]:
    return [tuple(m) for m in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]


def test_the_weights_are_those_of_the_file_to_float16(tmp_path, capfd):
    expected = write_gguf(tmp_path / "m.gguf")
    folder = tmp_path / "out"
    folder.mkdir()
    dequantise(tmp_path / "m.gguf", folder)
    assert capfd.readouterr() == ("", "")
    stored = load_file(folder / "model.safetensors")
    assert "lm_head.weight" not in stored, "tied to the embeddings, stored once"
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    ours = {
        "model.embed_tokens.weight": "token_embd",
        "model.layers.0.self_attn.v_proj.weight": "blk.0.attn_v",
        "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down",
    }
    for path, name in ours.items():
        expected_f16 = torch.from_numpy(expected[name]).to(torch.float16)
        assert torch.equal(stored[path], expected_f16), path
        exact = torch.from_numpy(expected[name])
        error = (stored[path].float() - exact).norm() / exact.norm()
        assert error < 3e-4


def test_the_result_loads_as_any_model(tmp_path):
    write_gguf(tmp_path / "m.gguf")
    folder = tmp_path / "out"
    folder.mkdir()
    dequantise(tmp_path / "m.gguf", folder)
    base = load(str(folder), HEAD)
    assert base.new_modules == ("score",)
    assert not hasattr(base.model.config, "quantization_config")
    with quiet():
        direct = AutoModelForCausalLM.from_pretrained(
            tmp_path, gguf_file="m.gguf", dtype=torch.float32
        )
        ours = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    ids = tokenizer("the film is good", return_tensors="pt").input_ids
    assert base.tokenizer("the film is good").input_ids == ids[0].tolist()
    torch.testing.assert_close(ours(ids).logits, direct(ids).logits, rtol=1e-2, atol=1e-3)


def test_what_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF but not really" * 10)
    with pytest.raises(ModelError, match="cannot be read as a GGUF model"):
        dequantise(tmp_path / "m.gguf", tmp_path)


@pytest.mark.proof
def test_smollm2_knows_the_capital_of_france():
    """Fetches and de-quantises the real file on first use: about half a minute."""
    from lightune.models.sources import resolve

    try:
        found = resolve("smollm2-135m")
    except ModelError as error:
        pytest.skip(str(error))
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(found.folder, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(found.folder)
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
