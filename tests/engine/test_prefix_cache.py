"""What names a text, what a store gives back, and what its key depends on."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from lightune.engine.plan import Plan
from lightune.engine.prefix import Prefix
from lightune.engine.prefix_cache import Store, prefix_cache, prefix_key, texts_of
from lightune.engine.spec import EngineSpec
from lightune.types import Batch


def batch(ids, mask, **more) -> Batch:
    inputs = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
    inputs |= {name: torch.tensor(value) for name, value in more.items()}
    return Batch(inputs, None, list(range(len(ids))))


ALONE = texts_of(batch([[7, 8]], [[1, 1]]))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (batch([[7, 8, 0, 0]], [[1, 1, 0, 0]]), True),
        (batch([[7, 8, 5, 0]], [[1, 1, 0, 0]]), True),
        (batch([[7, 8, 0, 0]], [[1, 1, 1, 0]]), False),
        (batch([[8, 7]], [[1, 1]]), False),
        (batch([[7]], [[1]]), False),
        (batch([[7, 8]], [[1, 1]], token_type_ids=[[0, 0]]), False),
    ],
)
def test_a_text_is_named_by_its_ids_without_the_padding(other, same):
    assert (texts_of(other) == ALONE) == same


def test_kinds_of_tokens_count():
    names = [
        texts_of(batch([[7, 8]], [[1, 1]], token_type_ids=kinds)) for kinds in ([[0, 0]], [[0, 1]])
    ]
    assert names[0] != names[1]


@pytest.mark.parametrize(
    "unknown",
    [
        batch([[0, 7, 8]], [[0, 1, 1]]),
        batch([[7, 0, 8]], [[1, 0, 1]]),
        batch([[7, 8]], [[1, 1]], bias=[[0.5, 0.5]]),
        batch([[7, 8]], [[1, 1]], answers=[[7, 8, 9]]),
        batch([[7, 8]], [[[1, 1]]]),
        Batch({"input_ids": torch.tensor([[7, 8]])}, None, [0]),
    ],
    ids=["padded left", "a hole", "not whole numbers", "another shape", "3 dimensions", "no mask"],
)
def test_batches_in_another_form_have_no_names(unknown):
    assert texts_of(unknown) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_store_gives_back_what_it_got(tmp_path, dtype):
    store = Store(tmp_path / "s.bin", "key")
    rows = {bytes([n]): torch.randn(n, 5).to(dtype) for n in (3, 1, 4)}
    store.append([b"\x03", b"\x01"], [rows[b"\x03"], rows[b"\x01"]])
    store.append([b"\x04"], [rows[b"\x04"]])
    got = store.padded([b"\x04", b"\x03", b"\x01"], 6)
    assert got.dtype == dtype
    for row, count in zip(got, (4, 3, 1), strict=True):
        assert torch.equal(row[:count], rows[bytes([count])])
        assert not row[count:].any()
    assert (tmp_path / "s.bin").stat().st_size == 8 * 5 * dtype.itemsize


def test_a_half_written_append_is_written_over(tmp_path):
    store = Store(tmp_path / "s.bin", "key")
    store.append([b"a"], [torch.ones(2, 3)])
    with (tmp_path / "s.bin").open("ab") as file:
        file.write(b"half")
    store.append([b"b"], [torch.full((1, 3), 2.0)])
    assert torch.equal(store.padded([b"b"], 1), torch.full((1, 1, 3), 2.0))


@pytest.fixture
def model():
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_attention_heads": 1}
    return BertForSequenceClassification(BertConfig(vocab_size=9, num_hidden_layers=2, **sizes))


def prefix_of(model) -> Prefix:
    first = model.bert.encoder.layer[0]
    front = (*model.bert.embeddings.modules(), *first.modules())
    return Prefix(model, ("bert.encoder.layer.0",), front)


def test_the_key_is_of_all_that_decides_the_states_and_of_nothing_else(model):
    key = prefix_key(prefix_of(model), Plan())
    with torch.no_grad():
        model.bert.encoder.layer[1].output.dense.weight.add_(1)
        model.classifier.weight.add_(1)
        model.config.id2label = {0: "no", 1: "yes"}
    assert prefix_key(prefix_of(model), Plan(measured={"x": 1.0})) == key
    changed = {prefix_key(prefix_of(model), Plan(dtype="bfloat16"))}
    model.config.hidden_act = "relu"
    changed.add(prefix_key(prefix_of(model), Plan()))
    model.config.hidden_act = "gelu"
    for weight in (
        model.bert.embeddings.LayerNorm.bias,
        model.bert.encoder.layer[0].output.dense.weight,
    ):
        with torch.no_grad():
            weight[-1] += 1e-6
        changed.add(prefix_key(prefix_of(model), Plan()))
    assert len(changed | {key}) == 5


@pytest.mark.parametrize(
    ("setting", "passes", "there"),
    [("auto", 1, False), ("auto", 1.5, True), ("on", 1, True), ("off", 5, False)],
)
def test_when_there_is_a_cache(model, tmp_path, setting, passes, there):
    spec = EngineSpec(prefix_cache=setting)
    with prefix_cache(prefix_of(model), Plan(), spec, passes, tmp_path, print) as cache:
        assert (cache is not None) == there
        assert len(list(tmp_path.iterdir())) == there
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_is_said_once_and_only_where_a_cache_was_wanted(model, tmp_path):
    prefix = Prefix(model, refusal="it is odd")
    notes: list[str] = []
    for setting in ("auto", "off"):
        spec = EngineSpec(prefix_cache=setting)
        with prefix_cache(prefix, Plan(), spec, 3, tmp_path, notes.append) as cache:
            assert cache is None
    assert notes == ["frozen blocks of BertForSequenceClassification run in every epoch: it is odd"]


def test_nothing_frozen_is_not_worth_a_word(model, tmp_path):
    notes: list[str] = []
    with prefix_cache(Prefix(model), Plan(), EngineSpec(), 3, tmp_path, notes.append) as cache:
        assert cache is None
    assert notes == []
