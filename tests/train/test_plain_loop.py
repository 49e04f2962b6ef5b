"""The script without abstractions, and the library's loop: the same losses."""

import copy
import csv
import importlib.util
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from lightune.train.loop import epoch_steps
from tests.train.training import Training, examples_of, spec_of, tiny

SCRIPT = Path(__file__).parents[2] / "recipes" / "plain_loop.py"


@pytest.fixture(scope="module")
def plain():
    spec = importlib.util.spec_from_file_location("plain_loop", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_losses_are_equal(plain, dropout):
    model, train = tiny(dropout), examples_of(30)
    plain.add_lora(model)
    twin = copy.deepcopy(model)
    settings = {"epochs": 3, "batch_size": 4, "seed": 7}
    batches = [
        batch
        for epoch in range(3)
        for step in epoch_steps(train, spec_of(**settings), epoch)
        for batch in step
    ]
    theirs = plain.train(
        twin,
        [example.inputs["input_ids"] for example in train],
        [example.target for example in train],
        batches,
        pad_id=0,
        rate=1e-2,
        seed=7,
    )
    trainable = {path: w for path, w in model.named_parameters() if w.requires_grad}
    ours = Training(model, train, rate=1e-2, trainable=trainable, **settings)
    assert len(theirs) == 24
    assert ours.losses == pytest.approx(theirs, abs=1e-5)
    assert abs(theirs[-1] - theirs[0]) > 0.01, "nothing was learned, so nothing is compared"
    for (path, mine), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-4, msg=path)


def test_the_script_runs(plain, tmp_path, capsys):
    words = ["[PAD]", "[UNK]", *["bad", "poor", "dull", "good", "fine", "great", "film", "it"]]
    vocabulary = {word: number for number, word in enumerate(words)}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]"
    )
    tokenizer.save_pretrained(tmp_path)
    tiny(labels=2).save_pretrained(tmp_path)
    with (tmp_path / "reviews.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["text", "label"])
        for number in range(60):
            good = number % 2
            writer.writerow([f"it film {words[2 + number % 3 + 3 * good]}", "ab"[good]])
    plain.main(str(tmp_path), str(tmp_path / "reviews.csv"))
    assert "accuracy on 12 held-out rows: " in capsys.readouterr().out


def test_it_stays_short_and_plain():
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    assert "import lightune" not in text
    assert "from lightune" not in text
