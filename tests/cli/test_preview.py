"""`lightune data preview`: rows as the model reads them."""

import json

import pytest

from lightune.cli.data import _views
from lightune.models.tiny import ENCODER_DECODERS, save_tiny
from lightune.tasks.translation import Translation
from lightune.types import HeadSpec, Place, Record

ROWS = [{"prompt": f"what is {n}?", "completion": f"good film {n}"} for n in range(6)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with a model, `d.jsonl` and a recipe for both."""
    folder = tmp_path_factory.mktemp("preview")
    save_tiny(folder / "lm", "llama", HeadSpec("causal_lm"))
    (folder / "d.jsonl").write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    (folder / "r.yaml").write_text(
        f"task: instruct\nmodel: {folder / 'lm'}\ndata: {{train: {folder / 'd.jsonl'}, test: 0}}\n",
        encoding="utf-8",
    )
    return folder


def test_tokens_mask_and_what_is_cut(lightune, folder):
    status, out, _ = lightune("data", "preview", folder / "r.yaml", "--json", "--rows", 2)
    assert status == 0
    shown = json.loads(out)
    assert shown["records"] == 6
    row = shown["rows"][0]
    assert (row["line"], row["tokens_cut"], row["cut"], row["problem"]) == (1, 0, [], None)
    assert len(row["tokens"]) == len(row["ids"]) == len(row["learnt"])
    learnt = [t for t, yes in zip(row["tokens"], row["learnt"], strict=True) if yes]
    assert "".join(learnt).replace("Ġ", "") == "goodfilm0</s>"

    shorter = len(row["ids"]) - 4
    change = ("-s", f"train.max_length={shorter}")
    _, out, _ = lightune("data", "preview", folder / "r.yaml", "--json", "--rows", 1, *change)
    [cut] = json.loads(out)["rows"]
    assert cut["ids"] + cut["cut_ids"] == row["ids"]
    assert (len(cut["cut"]), cut["tokens_cut"]) == (4, 4)


def test_a_row_with_nothing_left_to_learn_is_shown_with_its_error(lightune, folder):
    change = ("-s", "train.max_length=20")
    status, out, _ = lightune("data", "preview", folder / "r.yaml", "--start", 3, *change)
    assert status == 0
    assert "20 tokens, 0 learnt" in out
    assert "d.jsonl:3: nothing to learn" in out
    assert "cut    │" in out


def test_people_see_what_is_read_and_what_is_learnt(lightune, folder):
    _, out, _ = lightune("data", "preview", folder / "r.yaml", "--rows", 1)
    assert "read   │" in out
    [learnt] = [line for line in out.splitlines() if line.strip().startswith("learnt")]
    assert "good film 0</s>" in learnt
    _, out, _ = lightune("data", "preview", folder / "r.yaml", "--rows", 1, "--tokens")
    assert "|ood|" in out


def test_a_row_that_is_not_there(lightune, folder):
    status, _, err = lightune("data", "preview", folder / "r.yaml", "--start", 7)
    assert status == 2
    assert "6 rows to train on" in err


def test_labels_are_shown_where_whole_texts_have_them(lightune, there):
    (there / "c.yaml").write_text(
        "task: classification\nmodel: tiny\ndata: {train: train.csv}\n", encoding="utf-8"
    )
    status, out, _ = lightune("data", "preview", "c.yaml", "--json", "--rows", 1)
    [row] = json.loads(out)["rows"]
    assert status == 0
    assert row["learnt"] is None
    assert row["target"] in (0, 1)
    assert row["tokens"][0] == "[CLS]"


def test_a_target_is_no_mask_where_it_is_as_long_as_the_source():
    _, tokenizer = ENCODER_DECODERS["t5"](HeadSpec("seq2seq_lm"))
    record = Record({"source": "good film", "target": "film good"}, Place("d", 1))
    [view] = _views(record, Translation(), tokenizer, {"form": "seq2seq"}, 64)
    assert view["learnt"] is None
    assert view["target"].split("<")[0].strip() == "film good"
