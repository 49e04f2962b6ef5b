"""A folder as a model: what is refused, and the mend that is offered."""

import json
import shutil
from pathlib import Path

import pytest

from lightune.errors import LightuneError, ModelError
from lightune.models.folder import check_folder, check_safetensors, weight_files
from lightune.models.load import load
from lightune.models.tiny import save_tiny
from lightune.types import HeadSpec

HEAD = HeadSpec("sequence_classification", ("no", "yes"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("m") / "tiny", "bert")


@pytest.fixture
def folder(whole, tmp_path) -> Path:
    return shutil.copytree(whole, tmp_path / "tiny")


def config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut(folder: Path, name: str, keep: int) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:keep])


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def shards(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    parts = {"x": "model-00001-of-00002.safetensors", "y": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))


def remove(*names: str):
    return lambda folder: [(folder / name).unlink() for name in names]


def adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


BAD = {
    "no config": (remove("config.json"), "no config.json", "save_pretrained"),
    "an adapter": (adapter, "no config.json", "train.from"),
    "no weights": (remove("model.safetensors"), "no weights", "model.safetensors"),
    "pickle": (pickled, "a pickle can run any code", "convert it where you trust it"),
    "config is no JSON": (lambda f: cut(f, "config.json", 20), "not JSON", "fetch"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "JSON object", "fetch"),
    "truncated": (lambda f: cut(f, "model.safetensors", -9), "truncated", "delete the file"),
    "half a header": (lambda f: cut(f, "model.safetensors", 50), "no safetensors header", "delete"),
    "empty": (lambda f: cut(f, "model.safetensors", 0), "no safetensors header", "delete"),
    "a shard lacks": (shards, "not every part", "fetch"),
    "unknown family": (lambda f: config(f, model_type="nope"), "cannot build", "never run"),
    "foreign code": (
        lambda f: config(f, model_type="nope", auto_map={"AutoConfig": "m.C"}),
        "cannot build",
        "code that comes with a model is never run",
    ),
    "bad sizes": (lambda f: config(f, hidden_size="wide"), "cannot build", "architecture"),
    "quantised": (
        lambda f: config(f, quantization_config={"quant_method": "gptq", "bits": 4}),
        "quantised",
        "original weights",
    ),
    "no such head": (
        lambda f: config(f, model_type="vit"),
        "has no sequence class",
        "another model",
    ),
    "other sizes": (lambda f: config(f, hidden_size=64), "whole BertForSeq", "come from one model"),
    "more blocks": (lambda f: config(f, num_hidden_layers=3), "whole BertForSeq", "one model"),
    "no tokenizer": (remove("tokenizer.json", "tokenizer_config.json"), "no tokenizer", "copy"),
    "broken tokenizer": (lambda f: cut(f, "tokenizer.json", 99), "cannot be read", "tokenizer"),
    "small embeddings": (None, "does not belong", "came with the weights"),
}


def shrink_embeddings(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("word_embeddings.weight"))
    tensors[name] = tensors[name][:100].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config(folder, vocab_size=100)


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_refused_with_a_mend(folder, case, capfd):
    spoil, problem, mend = BAD[case]
    (spoil or shrink_embeddings)(folder)
    with pytest.raises(ModelError) as error:
        load(str(folder), HEAD)
    assert problem in error.value.problem
    assert mend in error.value.mend
    assert error.value.found
    assert capfd.readouterr() == ("", "")


def test_a_pickle_beside_safetensors_is_not_read(folder):
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert [path.name for path in check_folder(folder)] == ["model.safetensors"]
    load(str(folder), HEAD)


def test_shards_load_like_one_file(folder, whole):
    from transformers import AutoModel

    from lightune.models.quiet import quiet

    with quiet():
        AutoModel.from_pretrained(whole).save_pretrained(folder, max_shard_size="60KB")
    (folder / "model.safetensors").unlink()
    assert len(check_folder(folder)) > 1
    assert load(str(folder), HEAD).hash() == load(str(whole), HEAD).hash()


def test_every_truncation_is_found(folder):
    path = folder / "model.safetensors"
    size = path.stat().st_size
    for keep in [*range(40), size // 2, size - 1]:
        cut_file = folder / "cut"
        cut_file.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ModelError, match="damaged"):
            check_safetensors(cut_file)


def test_only_the_weights_of_the_model_are_taken():
    names = ["model.safetensors", "consolidated.safetensors", "model-00001-of-00001.safetensors"]
    assert weight_files(names, "x") == ["model.safetensors"]
    with pytest.raises(LightuneError, match="no weights"):
        weight_files(["adapter_model.safetensors"], "x")
