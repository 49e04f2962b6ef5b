"""Real data sets with their traps; they lie beside the repository on development machines."""

import re
import time
import zipfile
from pathlib import Path

import pytest

from lightune.data.load import load_splits
from lightune.data.spec import DataSpec

DATA = Path(__file__).parents[2] / ".." / "shared" / "data"
EXAMPLE = Path(__file__).parents[2] / "examples" / "data" / "sms_spam.tsv"

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="needs the data sets in ../shared/data")


def test_sst2_each_file_on_its_own_and_fast(fields):
    spec = DataSpec(train=str(DATA / "sst2/train.tsv"), test=str(DATA / "sst2/dev.tsv"))
    start = time.process_time()
    found = load_splits(spec, fields, {})
    assert time.process_time() - start < 4  # about 1 s on an idle machine
    assert (len(found.train), len(found.test)) == (67_349, 872)
    assert found.test[0].values == {"text": "one long string of cliches .", "label": "0"}
    assert found.train[0].place.line == 2


def test_sst2_as_a_folder(fields):
    found = load_splits(DataSpec(train=str(DATA / "sst2")), fields, {}, 0, True)
    assert (len(found.train), len(found.validation), len(found.test)) == (67_349, 872, 1_821)


def test_ag_news_test_without_header(load):
    made = load(str(DATA / "ag_news/test.csv"))
    assert len(made.records) == 7_600
    assert made.records[0].values["label"] == "3"
    assert made.records[0].values["text"].startswith("Unions representing workers")
    both = load(str(DATA / "ag_news/test.csv"), {"text": ["column_2", "column_3"]})
    assert both.records[0].values["text"].startswith("Fears for T N pension after talks\nUnions")


def test_ag_news_train_is_quoted_although_a_tsv(load):
    made = load(str(DATA / "ag_news/train_10k_alps.tsv"))
    assert len(made.records) == 10_001
    assert {r.values["label"] for r in made.records} == {"World", "Sports", "Business", "Sci/Tech"}
    assert not any('""' in r.values["text"] for r in made.records)


@pytest.mark.parametrize(("part", "rows"), [("train", 3_576), ("val", 500), ("test", 1_725)])
def test_mrpc_pairs_with_mark_and_bare_quotes(load, part, rows):
    made = load(str(DATA / f"mrpc/msr-para-{part}.tsv"))
    assert len(made.records) == rows
    assert all(r.values["text_pair"] for r in made.records)
    assert {r.values["label"] for r in made.records} == {"0", "1"}


@pytest.mark.parametrize(("part", "rows"), [("train", 9_600), ("dev", 1_200)])
def test_chnsenticorp_loses_no_row_to_quotes(load, part, rows):
    made = load(str(DATA / f"chnsenticorp/{part}.tsv"))
    assert [r.place.line for r in made.records] == list(range(1, rows + 1))
    assert {r.values["label"] for r in made.records} == {"positive", "negative"}


def test_chnsenticorp_test_can_be_predicted(load):
    made = load(str(DATA / "chnsenticorp/test.tsv"), need="predict")
    assert len(made.records) == 1_200


def test_cola(load, tmp_path):
    zipfile.ZipFile(DATA / "cola/cola_public.zip").extractall(tmp_path)
    raw = tmp_path / "cola_public/raw"
    made = load(str(raw / "in_domain_train.tsv"))
    assert len(made.records) == 8_551
    assert made.records[0].values["text"].startswith("Our friends won't buy")
    assert {r.values["label"] for r in made.records} == {"0", "1"}
    dev = load([str(raw / "in_domain_dev.tsv"), str(raw / "out_of_domain_dev.tsv")])
    assert len(dev.records) == 1_043


def test_bundled_sms_spam_holds_the_messages_of_the_source(load):
    text = (DATA / "sms_spam/SMSSpamCollection").read_text(encoding="utf-8")
    messages = re.split(r"\n(?=ham\t|spam\t)", text.removesuffix("\n"))
    made = load(str(EXAMPLE))
    assert [f"{r.values['label']}\t{r.values['text']}" for r in made.records] == messages
