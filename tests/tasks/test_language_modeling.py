"""Plain texts: windows, what is predicted in them, and scores that compare across tokenizers."""

import math
from itertools import pairwise

import pytest
import torch

from lightune.cli.main import main
from lightune.data.read import read_file
from lightune.data.spec import DataSpec
from lightune.errors import ConfigError, DataError, ModelError
from lightune.models.tiny import FAMILIES, save_tiny, tiny_tokenizer
from lightune.nn import losses
from lightune.recipe import load_recipe
from lightune.run import Run
from lightune.tasks.base import Resampling
from lightune.tasks.language_modeling import LanguageModeling
from lightune.types import HeadSpec, Place, Prediction, Record

HEAD = HeadSpec("causal_lm")


def records(*texts):
    return [Record({"text": text}, Place("d.txt", i + 1)) for i, text in enumerate(texts)]


@pytest.mark.parametrize("overlap", [1, 3, 7])
@pytest.mark.parametrize("repeats", [1, 2, 5, 9])
def test_windows_predict_every_token_once(overlap, repeats):
    tokenizer = tiny_tokenizer("decoder")
    task = LanguageModeling(overlap=overlap)
    state = task.fit_tokenizer(tokenizer, {})
    text = "the film is good " * repeats
    made = task.encode(records(text, "bad"), tokenizer, state, 8)
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    parts = [e for e in made if e.index == 0]
    learnt = [t for e in parts for t in e.target if t != losses.NO_LABEL]
    assert learnt == [*whole, tokenizer.eos_token_id]
    assert parts[0].inputs["input_ids"][0] == tokenizer.bos_token_id
    for before, after in pairwise(parts):
        assert len(before) == 8
        assert after.inputs["input_ids"][:overlap] == before.inputs["input_ids"][-overlap:]
        assert after.target[:overlap] == [losses.NO_LABEL] * overlap
    assert [e.index for e in made][-1] == 1
    assert not any(e.dropped for e in made)


def test_a_special_token_in_a_text_is_text():
    tokenizer = tiny_tokenizer("decoder")
    task = LanguageModeling()
    [example] = task.encode(records("a </s> b"), tokenizer, task.fit_tokenizer(tokenizer, {}), 50)
    assert example.inputs["input_ids"].count(tokenizer.eos_token_id) == 1


def test_the_loss_of_a_document_is_the_sum_of_its_windows():
    model, tokenizer = FAMILIES["gpt2"](HEAD)
    task = LanguageModeling()
    state = task.fit_tokenizer(tokenizer, {})
    examples = task.encode(records("the film is good", "bad film"), tokenizer, state, 4)
    sums = []
    for example in examples:
        ids = torch.tensor([example.inputs["input_ids"]])
        labels = torch.tensor([example.target])
        count = int((labels[:, 1:] != losses.NO_LABEL).sum())
        with torch.no_grad():
            sums.append([model(input_ids=ids, labels=labels).loss.item() * count, count])
    made = task.decode(torch.tensor(sums), examples, state)
    assert [p.index for p in made] == [0, 1]
    mine = [row for row, e in zip(sums, examples, strict=True) if e.index == 0]
    assert len(mine) > 1
    assert made[0].measures["tokens"] == sum(n for _, n in mine)
    assert made[0].measures["loss"] == pytest.approx(
        sum(s for s, _ in mine) / sum(n for _, n in mine)
    )


def test_bits_per_byte_by_the_formula():
    rows = records("abcd", "电影")
    losses_, tokens = (2.0, 3.0), (5, 2)
    made = [
        Prediction(i, None, measures={"loss": loss, "tokens": n})
        for i, (loss, n) in enumerate(zip(losses_, tokens, strict=True))
    ]
    found = LanguageModeling().compare(made, rows, {}, Resampling(intervals=False)).metrics
    nats, size = 2.0 * 5 + 3.0 * 2, 4 + 6
    assert found["bits_per_byte"].value == pytest.approx(nats / math.log(2) / size)
    assert found["perplexity"].value == pytest.approx(math.exp(nats / 7))
    assert found["log_likelihood"].value == pytest.approx(-nats / 7)


def test_a_window_must_hold_something_new():
    task = LanguageModeling(overlap=8)
    tokenizer = tiny_tokenizer("decoder")
    with pytest.raises(ConfigError, match="nothing new"):
        task.encode(records("a"), tokenizer, task.fit_tokenizer(tokenizer, {}), 8)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end token"):
        task.fit_tokenizer(tokenizer, {})


def test_paragraphs_of_a_text_file_are_documents(tmp_path):
    file = tmp_path / "book.txt"
    file.write_text("\nfirst line\nsecond\n \n\nthird, with a comma\n", encoding="utf-8")
    table = read_file(file, DataSpec(train=str(file), format="text"))
    assert table.columns == {"text": ["first line\nsecond", "third, with a comma"]}
    assert list(table.lines) == [2, 6]
    file.write_text(" \n\n", encoding="utf-8")
    with pytest.raises(DataError):
        read_file(file, DataSpec(train=str(file), format="text"))


def test_text_files_are_read_as_text_only_by_this_task():
    recipes = [
        load_recipe({"task": task, "data": "book.txt"})
        for task in ("language_modeling", "classification")
    ]
    assert [recipe.data.format for recipe in recipes] == ["text", None]


def test_from_a_text_file_in_three_commands(tmp_path, capsys):
    model = save_tiny(tmp_path / "gpt2", "gpt2", HEAD)
    file = tmp_path / "book.txt"
    file.write_text("\n\n".join(f"the film is good {i}" for i in range(10)), encoding="utf-8")
    out = str(tmp_path / "run")
    quick = [f"train.{k}" for k in ("max_steps=1", "precision=fp32", "engine.threads=1")]
    words = ["--task", "language_modeling", "--data", str(file), "--model", str(model)]
    changes = [w for change in quick for w in ("-s", change)]
    assert main(["train", *words, "--out", out, *changes]) == 0, capsys.readouterr().err
    assert main(["evaluate", out, str(file)]) == 0
    assert main(["predict", out, "--text", "the film"]) == 0
    run = Run.open(out)
    assert run.evaluate(file)["records"] == 10
    csv = tmp_path / "new.csv"
    csv.write_text("text\na good film\n", encoding="utf-8")
    [row] = run.predict(csv)
    assert isinstance(row["prediction"], str)
    assert row["tokens"] > 0
