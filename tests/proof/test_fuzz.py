"""A few hundred random and damaged files of each kind, and the attacks that chance seldom finds."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from proof import fuzz

from lightune.adapters.load import load_adapter
from lightune.data.read import read_file
from lightune.data.spec import DataSpec
from lightune.errors import AdapterError, DataError, MethodError
from lightune.models.tiny import build
from lightune.types import HeadSpec


def test_nothing_but_errors_of_ours_escapes(tmp_path):
    counts, escaped = fuzz.fuzz(tmp_path, examples=12)
    assert not escaped
    assert all(0 < refused <= tried for tried, refused in counts.values())


def test_a_gzip_bomb_is_refused(tmp_path):
    path = tmp_path / "rows.csv.gz"
    with gzip.open(path, "wb", compresslevel=9) as file:
        for _ in range(300):
            file.write(b"\0" * 2**20)
    with pytest.raises(DataError, match="unpacks to more"):
        read_file(path, DataSpec(train=str(path)))


def test_a_parquet_bomb_is_refused(tmp_path):
    path = tmp_path / "rows.parquet"
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 11_000_000, pa.int8()), ["a"])
    pq.write_table(pa.table({"text": column}), path)
    with pytest.raises(DataError, match="more cells than"):
        read_file(path, DataSpec(train=str(path)))


def test_a_header_without_end_is_refused(tmp_path):
    model, _ = build("bert", HeadSpec("sequence_classification", ("a", "b")))
    config = {"peft_type": "LORA", "peft_version": "0.21.0", "lora_alpha": 1}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    long = (2**25).to_bytes(8, "little") + b"{" + b" " * 2**25
    (tmp_path / "adapter_model.safetensors").write_bytes(long)
    with pytest.raises(AdapterError, match="header that is too large"):
        load_adapter(tmp_path, model.requires_grad_(False), None)


@pytest.mark.parametrize("rank", [10**9, 2**70])
def test_a_rank_without_end_is_refused(rank):
    from lightune.methods.base import methods

    model, _ = build("bert", HeadSpec("sequence_classification", ("a", "b")))
    with pytest.raises(MethodError, match="must be at most 4096"):
        methods()["peft"](type="LOHA", r=rank).attach(model.requires_grad_(False))
