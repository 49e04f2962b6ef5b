"""Texts that training and its tests share: exact ones refused, dropped or allowed, near ones found.

The oracle of near duplicates compares every pair of rows, word set with word set.
"""

import random

import pytest

from lightune.data import overlap
from lightune.data.load import load_splits
from lightune.data.report import render
from lightune.data.spec import DataSpec
from lightune.errors import DataError
from lightune.types import Place, Record


def records(texts, file="a.csv", field="text"):
    made = enumerate(texts, start=1)
    return [Record({field: text, "label": "x"}, Place(file, i)) for i, text in made]


def pairs(texts, file="a.csv"):
    made = enumerate(texts, start=1)
    return [Record({"text": a, "text_pair": b}, Place(file, i)) for i, (a, b) in made]


@pytest.fixture
def given(write, fields):
    train = "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(20))
    test = "text,label\ntext 3,b\nnew,a\ntext 3,b\ntext 4,a\n"
    spec = {"train": write("a.csv", train), "test": write("b.csv", test)}
    return lambda **more: load_splits(DataSpec(**spec, **more), fields, {})


def test_exact_duplicates_are_refused_by_file_and_line(given):
    with pytest.raises(DataError) as caught:
        overlap.refuse(given().named, "data.overlap")
    told = str(caught.value)
    assert "b.csv:2: 3 rows of test would be trained on too" in told
    assert "b.csv:2 = " in told
    assert "a.csv:5" in told
    assert "b.csv:5 = " in told
    assert "-s data.overlap=drop" in caught.value.mend
    assert "-s data.overlap=allow" in caught.value.mend


def test_dropping_leaves_nothing_to_refuse(given):
    found = given(overlap="drop")
    assert len(found.train) == 18
    assert len(found.test) == 4
    assert "train: 2 rows left out that are tested on (data.overlap)" in found.notes
    overlap.refuse(found.named, "data.overlap")


def test_dropping_everything_is_an_error(write, fields):
    path = write("a.csv", "text,label\none,a\ntwo,b\n")
    with pytest.raises(DataError, match="nothing to train on"):
        load_splits(DataSpec(train=path, test=path, overlap="drop"), fields, {})


def test_rows_held_out_are_never_refused(write, fields):
    path = write(
        "a.csv", "text,label\n" + "".join(f"t {i % 20},{'ab'[i % 2]}\n" for i in range(60))
    )
    overlap.refuse(load_splits(DataSpec(train=path), fields, {}).named, "data.overlap")


LONG = "the quick brown fox jumps over the lazy dog today"  # nine different words


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Good film!", "good  film", True),
        ("good film", "film good", False),
        ("good film", "good films", False),
        (LONG, LONG.replace("today", "again"), True),  # 8 of 10
        (LONG, LONG.replace("lazy dog", "old cat"), False),  # 7 of 11
        (LONG, "today " + LONG, True),
        ("one two three four", "one two three four four", False),
        ("这部电影很好看", "这部电影，很好看。", True),
        ("这部电影真的很好看啊", "这部电影真的很好看吗", True),
        ("这部电影很好看", "昨天下雨没有出门", False),
        ("", "", False),
        ("!!!", "???", False),
    ],
)
def test_what_is_near(one, other, expected):
    assert overlap.near(records([one]), records([other]))["near_rows"] == expected * (one != other)


def test_an_exact_duplicate_is_not_counted_again():
    assert overlap.near(records([LONG]), records([LONG]))["near_rows"] == 0


def test_each_field_must_be_alike():
    other = "a wholly different question about something else entirely"
    same = overlap.near(pairs([(LONG, LONG)]), pairs([(LONG, LONG + " again")]))
    assert same["near_rows"] == 1
    assert overlap.near(pairs([(LONG * 9, LONG)]), pairs([(LONG * 9, other)]))["near_rows"] == 0


def test_every_near_pair_is_found_and_no_other():
    draw = random.Random(0)
    vocabulary = [f"w{i}" for i in range(60)]

    def some(count):
        return [" ".join(draw.choices(vocabulary[: draw.choice([12, 60])], k=draw.randint(1, 14)))
                for _ in range(count)]  # fmt: skip

    train, other = some(300), some(300)
    other += [" ".join([*t.split()[:-1], "new"]) for t in train[:40]]

    def is_near(a, b):
        x, y = set(a.split()), set(b.split())
        return a != b and min(len(x), len(y)) >= 5 and 5 * len(x & y) >= 4 * len(x | y)

    exact = set(train)
    expected = {
        j for j, b in enumerate(other) if b not in exact and any(is_near(a, b) for a in train)
    }
    rows = [overlap.words(r) for r in records(other)]
    found, compared = overlap.alike([overlap.words(r) for r in records(train)], rows)
    assert compared == 300
    assert {j for j in found if other[j] not in exact} == expected
    assert len(expected) > 15


def test_ten_thousand_rows_of_words_are_compared_whole():
    draw = random.Random(0)
    vocabulary = [f"w{int(draw.paretovariate(0.6)) % 20000}" for _ in range(30_000)]
    texts = [" ".join(draw.choices(vocabulary, k=30)) for _ in range(10_000)]
    found = overlap.near(records(texts[:8000]), records(texts[8000:]))
    assert found["compared"] == [8000, 2000]


def test_texts_of_few_different_words_are_compared_until_the_work_is_too_much():
    draw = random.Random(0)
    made = ["".join(draw.choices("的一是了我不在人有他这中大来上", k=60)) for _ in range(300)]
    train, other = ([overlap.words(r) for r in records(part)] for part in (made[:200], made[200:]))
    every, compared = overlap.alike(train, other)
    assert compared == 200
    some, fewer = overlap.alike(train, other, work=20_000)
    assert 0 < fewer < 100
    assert some.keys() <= every.keys()
    rows = list(overlap._from_everywhere(200))
    assert sorted(rows) == list(range(200))
    assert max(rows[:fewer]) > 150


def test_very_many_rows_are_sampled_and_that_is_said(monkeypatch):
    monkeypatch.setattr(overlap, "MOST", 10)
    found = overlap.near(records([f"{LONG} {i}" for i in range(25)]), records([LONG] * 4))
    assert found["compared"] == [9, 4]
    assert found["near_rows"] == 4
    report = {"splits": {}, "overlap": {"train/test": {"texts": 0, "rows": 0} | found}}
    expected = "texts almost as in train: 4 of 4 rows of test (8 of 10 words the same, 9 rows of"
    assert expected in render(report)[0]
