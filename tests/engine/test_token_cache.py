"""Tokenised records from the cache: equal, keyed by what decides them, bounded, mended."""

import os

import pytest

from lightune.engine import token_cache
from lightune.engine.token_cache import encoded, key_of, pack, unpack
from lightune.types import Example


def examples(targets=(0, 1, 2), prompt=None):
    return [
        Example(i, {"input_ids": list(range(i, 2 * i + 1)), "token_type_ids": [0] * (i + 1)}, t, i)
        if prompt is None
        else Example(i, {"input_ids": [7] * i}, t, 0, prompt)
        for i, t in enumerate(targets)
    ]


@pytest.fixture(autouse=True)
def keep_all(monkeypatch):
    monkeypatch.setattr(token_cache, "MIN_SECONDS", 0.0)


class Counting:
    def __init__(self, made):
        self.made, self.calls = made, 0

    def __call__(self):
        self.calls += 1
        return self.made


@pytest.mark.parametrize(
    "made",
    [
        examples(),
        examples((None, None, None)),
        examples((None, 1, 2)),
        examples(([0, 2], [], [1])),
        examples(([-100, 3], [-100], [4, 5]), prompt=[1, 2]),
        examples((0.5, 1.0, None)),
        [],
    ],
    ids=["ids", "unlabelled", "mixed", "several", "per token", "numbers", "none"],
)
def test_what_comes_back_is_equal(tmp_path, made):
    make = Counting(made)
    first = encoded(make, {"records": "a"}, folder=tmp_path)
    again = encoded(make, {"records": "a"}, folder=tmp_path)
    assert make.calls == 1
    assert first == again == made
    assert [type(e.target) for e in again] == [type(e.target) for e in made]


@pytest.mark.parametrize(
    "made",
    [
        examples(((0, 1), (1,), ())),
        [Example(0, {"input_ids": [1]}, 0), Example(1, {"ids": [1]}, 0)],
        examples((float("nan"), 1.0, 2.0)),
        examples((object(), 1, 2)),
    ],
    ids=["tuples", "other inputs", "nan", "object"],
)
def test_what_would_not_come_back_equal_is_not_kept(tmp_path, made):
    assert pack(made) is None
    make = Counting(made)
    for _ in range(2):
        assert encoded(make, {}, folder=tmp_path) == made
    assert make.calls == 2
    assert not list(tmp_path.iterdir())


def test_whatever_decides_is_in_the_key(monkeypatch):
    parts = {"records": "a", "task": {"name": "x"}, "tokenizer": "t", "max_length": 128}
    keys = {key_of(parts)}
    keys |= {key_of({**parts, name: "other"}) for name in parts}
    monkeypatch.setattr(token_cache, "code_hash", lambda: "other code")
    keys.add(key_of(parts))
    monkeypatch.setattr(token_cache, "package_version", lambda name: "0")
    keys.add(key_of(parts))
    assert len(keys) == len(parts) + 3


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_entry_is_said_and_made_anew(tmp_path, damage):
    make, said = Counting(examples()), []
    encoded(make, {}, folder=tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    file.write_bytes({"flip": flipped, "cut": whole[:-40], "empty": b""}[damage])
    assert encoded(make, {}, said.append, folder=tmp_path) == make.made
    assert make.calls == 2
    assert len(said) == 1
    assert "damaged" in said[0]
    assert file.read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_quick_work_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(token_cache, "MIN_SECONDS", 60.0)
    encoded(Counting(examples()), {}, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_those_unused_for_longest_go_first(tmp_path, monkeypatch):
    make = Counting(examples())
    for number in range(3):
        encoded(make, {"records": number}, folder=tmp_path)
    names = [tmp_path / f"{key_of({'records': number})}.safetensors" for number in range(4)]
    for age, name in zip((300, 200, 100), names[:3], strict=True):
        os.utime(name, (1e9 - age, 1e9 - age))
    encoded(make, {"records": 0}, folder=tmp_path)  # read: now the youngest
    monkeypatch.setattr(token_cache, "LIMIT_BYTES", int(3.5 * names[0].stat().st_size))
    encoded(make, {"records": 3}, folder=tmp_path)
    assert [name.exists() for name in names] == [True, False, True, True]
    monkeypatch.setattr(token_cache, "LIMIT_BYTES", 10)
    encoded(make, {"records": "too large"}, folder=tmp_path)
    assert not (tmp_path / f"{key_of({'records': 'too large'})}.safetensors").exists()


def test_a_folder_that_cannot_be_written_costs_only_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    make = Counting(examples())
    assert encoded(make, {}, folder=tmp_path / "file" / "tokens") == make.made


def test_packing_is_exact():
    made = examples()
    assert unpack(pack(made)) == made
