"""The recipes of tasks that write train, with a tiny random model, and their runs predict."""

from pathlib import Path

import pytest

from lightune.cli.main import main
from lightune.run import Run

ROOT = Path(__file__).parents[1]
RECIPES = {
    "translation.yaml": ("bart-seq2seq", "chrf"),
    "data_to_text.yaml": ("llama-lm", "bleu"),
    "summarization.yaml": ("t5-seq2seq", "rouge_2"),
    "domain_text.yaml": ("gpt2-lm", "bits_per_byte"),
    "persona.yaml": ("llama-lm", "perplexity", "data.limit=10", "data.test=0.03"),
    "programs.yaml": ("llama-lm", "log_likelihood", "task.tests_shown=0"),
}
QUICK = ("max_steps=1", "batch_size=4", "precision=fp32", "engine.threads=1", "max_length=120")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_trains_scores_and_predicts(tiny, tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(ROOT)
    family, metric, *more = RECIPES[name]
    out = str(tmp_path / "run")
    changes = [f"model={tiny(family)}", "task.max_new_tokens=4", *more]
    changes += [f"train.{k}" for k in QUICK]
    words = ["train", f"recipes/{name}", "--out", out]
    status = main([*words, *(word for change in changes for word in ("-s", change))])
    assert status == 0, capsys.readouterr().err
    run = Run.open(out)
    assert metric in run.metrics
    assert run.summary()["records"] >= 2
    assert main(["evaluate", out]) == 0
    assert main(["predict", out, "--text", "what is it?"]) == 0
