"""Loading: what is new, what is frozen, what is said; every family by a tiny random model."""

import json
import math
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lightune.errors import MissingExtra, ModelError, ResourceError
from lightune.models import load as loading
from lightune.models import tokenizer as tokenizers
from lightune.models.hashing import base_hash
from lightune.models.load import load
from lightune.models.quiet import quiet
from lightune.models.tiny import CONFIGS, ENCODER_DECODERS, FAMILIES, MAX_LENGTH, save_tiny
from lightune.types import HeadSpec

SHARED = Path(__file__).parents[2] / ".." / "shared" / "weights"
HEAD = HeadSpec("sequence_classification", ("no", "yes", "maybe"))
TEXTS = ["the film is good", "see you later, 这部电影很好看"]
NEW = {
    "distilbert": ("pre_classifier", "classifier"),
    "deberta": ("pooler", "classifier"),
    "modernbert": ("head", "classifier"),
    "t5": ("classification_head",),
    "bart": ("classification_head",),
}
DECODERS = [family for family, entry in CONFIGS.items() if entry[1] == "decoder"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tiny")
    return {family: save_tiny(root / family, family) for family in CONFIGS}


def logits(model, tokenizer) -> torch.Tensor:
    with torch.no_grad():
        return model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits


@pytest.mark.parametrize("family", CONFIGS)
class TestEveryFamily:
    def test_loads_frozen_with_a_new_head(self, folders, family, capfd):
        state = torch.get_rng_state()
        base = load(str(folders[family]), HEAD, seed=3)
        assert torch.equal(torch.get_rng_state(), state)
        assert capfd.readouterr() == ("", "")
        default = ("score",) if family in DECODERS else ("classifier",)
        assert base.new_modules == NEW.get(family, default)
        assert not any(p.requires_grad for p in base.model.parameters())
        assert not any(m.training for m in base.model.modules())
        assert {p.dtype for p in base.model.parameters()} == {torch.float32}
        assert base.max_length == MAX_LENGTH
        assert base.model.config.id2label == {0: "no", 1: "yes", 2: "maybe"}
        assert base.model.config.pad_token_id == base.tokenizer.pad_token_id is not None
        assert any("no pad token" in note for note in base.notes) == (family in DECODERS)
        assert logits(base.model, base.tokenizer).shape == (2, 3)

    def test_the_base_is_the_files_and_the_head_the_seeds(self, folders, family):
        one, same, other = (load(str(folders[family]), HEAD, seed=s) for s in (3, 3, 4))
        ours = one.model.state_dict()
        fresh = tuple(f"{path}." for path in one.new_modules)
        stored = load_file(folders[family] / "model.safetensors")
        prefix = f"{one.model.base_model_prefix}."
        for name, tensor in stored.items():
            if prefix + name in ours:
                assert torch.equal(ours[prefix + name], tensor), name
        assert all(torch.equal(t, same.model.state_dict()[n]) for n, t in ours.items())
        differ = [n for n, t in other.model.state_dict().items() if not torch.equal(t, ours[n])]
        assert differ
        assert all(name.startswith(fresh) for name in differ)
        assert one.hash() == other.hash()

    def test_padding_does_not_change_a_row(self, folders, family):
        base = load(str(folders[family]), HEAD)
        alone = base.tokenizer(TEXTS[0], return_tensors="pt")
        with torch.no_grad():
            single = base.model(**alone).logits[0]
        torch.testing.assert_close(logits(base.model, base.tokenizer)[0], single)


@pytest.mark.parametrize("family", FAMILIES | ENCODER_DECODERS)
def test_builders_give_ready_models(family):
    build = (FAMILIES | ENCODER_DECODERS)[family]
    state = torch.get_rng_state()
    model, tokenizer = build(HEAD, 1)
    again, _ = build(HEAD, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert base_hash(model) == base_hash(again) != base_hash(build(HEAD, 2)[0])
    assert logits(model, tokenizer).isfinite().all()
    assert max(map(len, tokenizer(TEXTS).input_ids)) < MAX_LENGTH
    with pytest.raises(ModelError, match="needs labels"):
        build(HeadSpec("sequence_classification"), 0)


def test_a_head_of_the_same_labels_is_kept(tmp_path):
    folder = save_tiny(tmp_path / "m", "bert", HEAD, seed=5)
    base = load(str(folder), HEAD)
    assert base.new_modules == ()
    with quiet():
        oracle = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.testing.assert_close(
        logits(base.model, base.tokenizer), logits(oracle, AutoTokenizer.from_pretrained(folder))
    )


@pytest.mark.parametrize("labels", [("a", "b", "c"), ("a", "b"), ("yes", "no", "maybe")])
@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_a_head_of_other_labels_is_replaced_and_said(tmp_path, labels, family):
    folder = save_tiny(tmp_path / "m", family, HEAD, seed=5)
    base = load(str(folder), HeadSpec("sequence_classification", labels), seed=0)
    expected = {"bert": "classifier", "roberta": "classifier.out_proj", "gpt2": "score"}[family]
    assert base.new_modules == (expected,)
    assert any(f"to be trained: {expected}" in note for note in base.notes)
    weight = base.model.get_submodule(expected).weight
    old = load_file(folder / "model.safetensors")[f"{expected}.weight"]
    assert weight.shape[0] == len(labels)
    assert not torch.equal(weight[:2], old[:2])
    assert weight.std() == pytest.approx(0.02, rel=0.5), "initialised, not left over"


def test_multi_label_is_written_into_the_configuration(folders):
    for multi, kind in (
        (True, "multi_label_classification"),
        (False, "single_label_classification"),
    ):
        head = HeadSpec("sequence_classification", ("a", "b"), multi_label=multi)
        assert load(str(folders["bert"]), head).model.config.problem_type == kind


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta", "gpt2", "llama", "t5"])
@pytest.mark.parametrize("part", ["first", "last", "embedding"])
def test_a_missing_part_of_the_encoder_is_an_error(folders, family, part, tmp_path):
    folder = save_tiny(tmp_path / "m", family)
    tensors = load_file(folder / "model.safetensors")
    names = [n for n in sorted(tensors) if "pooler" not in n]
    embedding = next(n for n in names if any(w in n for w in ("embed", "wte", "shared")))
    gone = {"first": names[0], "last": names[-1], "embedding": embedding}[part]
    del tensors[gone]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="does not hold the whole") as error:
        load(str(folder), HEAD)
    assert gone.rpartition(".")[2] in error.value.found


def test_weights_of_another_family_are_an_error(folders, tmp_path):
    folder = save_tiny(tmp_path / "m", "bert")
    (folder / "model.safetensors").write_bytes((folders["gpt2"] / "model.safetensors").read_bytes())
    with pytest.raises(ModelError, match=r"tensors missing|does not hold"):
        load(str(folder), HEAD)


def test_a_missing_pooler_is_new_and_said(tmp_path):
    folder = save_tiny(tmp_path / "m", "bert")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "pooler" not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    base = load(str(folder), HEAD)
    assert base.new_modules == ("bert.pooler", "classifier")
    assert any("bert.pooler, classifier" in note for note in base.notes)


def test_tensors_without_use_and_tied_weights_are_said(folders):
    assert any("no use here: pooler" in note for note in load(str(folders["roberta"]), HEAD).notes)
    notes = load(str(folders["t5"]), HEAD).notes
    assert any(note.startswith("tied weights: transformer.shared.weight = ") for note in notes)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_dtype(folders, dtype):
    base = load(str(folders["bert"]), HEAD, dtype=dtype)
    assert {str(p.dtype) for p in base.model.parameters()} == {f"torch.{dtype}"}
    assert any("becomes" in note for note in base.notes) == (dtype != "float32")
    with pytest.raises(ModelError, match="float8"):
        load(str(folders["bert"]), HEAD, dtype="float8")


@pytest.mark.parametrize(
    ("family", "model_max", "expected"),
    [
        ("roberta", 10**30, MAX_LENGTH),
        ("bert", 10**30, MAX_LENGTH),
        ("bert", 64, 64),
        ("t5", 10**30, tokenizers.NO_LIMIT),
    ],
)
def test_the_longest_text(tmp_path, family, model_max, expected):
    folder = save_tiny(tmp_path / "m", family)
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_max_length": model_max}))
    base = load(str(folder), HEAD)
    assert base.max_length == expected
    if expected == tokenizers.NO_LIMIT:
        assert "the model declares no longest text" in base.notes
        return
    ids = torch.full((1, expected), base.tokenizer.convert_tokens_to_ids("a"))
    base.model(input_ids=ids)
    if model_max > expected:  # one more has no position
        with pytest.raises((IndexError, RuntimeError)):
            base.model(input_ids=torch.cat([ids, ids[:, :1]], dim=1))


def test_a_tokenizer_made_by_the_user_is_taken_from_its_file(folders):
    """AutoTokenizer gives Qwen2 folders the family's own splitting; ours keeps the file's."""
    base = load(str(folders["qwen2"]), HEAD)
    bos = base.tokenizer.bos_token_id
    assert [ids[0] for ids in base.tokenizer(TEXTS).input_ids] == [bos, bos]


@pytest.mark.parametrize(
    ("family", "kinds", "said"),
    [("bert", 2, True), ("bert", 1, False), ("distilbert", None, False)],
)
def test_a_generic_tokenizer_tells_two_texts_apart_for_a_model_that_does(
    tmp_path, family, kinds, said
):
    folder = save_tiny(tmp_path / "m", family)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("model_input_names", None)
    settings["tokenizer_class"] = "TokenizersBackend"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if kinds == 1:
        config = json.loads((folder / "config.json").read_text()) | {"type_vocab_size": 1}
        (folder / "config.json").write_text(json.dumps(config))
        weights = load_file(folder / "model.safetensors")
        name = "embeddings.token_type_embeddings.weight"
        save_file(
            weights | {name: weights[name][:1].contiguous()},
            folder / "model.safetensors",
            metadata={"format": "pt"},
        )
    base = load(str(folder), HEAD)
    pair = base.tokenizer("good", "film bad")
    assert any("which of two texts" in note for note in base.notes) is said
    assert ("token_type_ids" in pair) is said
    if said:
        assert sorted(set(pair["token_type_ids"])) == [0, 1]
        batch = base.tokenizer(["good"], ["film bad"], return_tensors="pt")
        assert torch.isfinite(base.model(**batch).logits).all()


def test_a_pad_token_of_the_configuration_that_differs_is_said(tmp_path):
    folder = save_tiny(tmp_path / "m", "bert")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": 7}))
    base = load(str(folder), HEAD)
    assert base.model.config.pad_token_id == base.tokenizer.pad_token_id == 0
    assert any("pad token 7" in note for note in base.notes)


def test_no_token_to_pad_with_is_an_error(folders):
    base = load(str(folders["gpt2"]), HEAD)
    for name in ("pad", "eos", "unk"):
        setattr(base.tokenizer, f"{name}_token", None)
    with pytest.raises(ModelError, match="no pad token"):
        tokenizers.complete_pad(base.tokenizer, base.model.config)


def test_too_little_memory_is_a_resource_error(folders, monkeypatch):
    class Auto:
        def from_pretrained(self, *args: object, **kwargs: object) -> None:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")

    monkeypatch.setattr(loading, "auto_class", lambda config, head: Auto())
    with pytest.raises(ResourceError, match="does not fit into memory"):
        load(str(folders["bert"]), HEAD)


def test_sentencepiece_is_named_when_missing(tmp_path, monkeypatch):
    folder = save_tiny(tmp_path / "m", "bert")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "MarianTokenizer"}')

    def fail(*args: object, **kwargs: object) -> None:
        raise ImportError("MarianTokenizer requires the SentencePiece library")

    monkeypatch.setattr(tokenizers.AutoTokenizer, "from_pretrained", fail)
    with pytest.raises(MissingExtra) as error:
        load(str(folder), HEAD)
    assert error.value.mend == "pip install sentencepiece"


def test_quiet_restores_what_was():
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    with quiet():
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (
            logging.ERROR,
            False,
        )
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


def test_the_hash_sees_every_bit_of_the_base_and_nothing_of_the_head(folders):
    base = load(str(folders["bert"]), HEAD)
    before = base.hash()
    base.model.classifier.weight.add_(1)
    assert base.hash() == before
    name = random.Random(0).choice([n for n in base.model.state_dict() if "classifier" not in n])
    tensor = base.model.state_dict()[name].view(-1)
    tensor[0] = math.nextafter(float(tensor[0]), math.inf) + 1e-6
    assert base.hash() != before


def test_minilm(minilm):
    base = load(minilm, HEAD)
    assert base.new_modules == ("classifier",)
    assert base.max_length == 512
    assert base.weights_sha256.startswith("53aa51172d14")
    assert sum(p.numel() for p in base.model.bert.parameters()) == 22713216
    assert base.tokenizer.tokenize("The café, OPEN") == ["the", "cafe", ",", "open"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared weights")
def test_bge_small_zh_in_half_precision_without_pooler():
    base = load(str(SHARED / "bge-small-zh-v1.5"), HEAD)
    assert base.new_modules == ("bert.pooler", "classifier")
    assert {p.dtype for p in base.model.parameters()} == {torch.float32}
    assert "the checkpoint's float16 becomes float32" in base.notes
    assert base.tokenizer.tokenize("电影好看") == list("电影好看")


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared weights")
def test_marian_has_no_classification_head():
    with pytest.raises(ModelError, match="'marian' has no sequence classification head"):
        load(str(SHARED / "opus-mt-en-fr"), HEAD)
