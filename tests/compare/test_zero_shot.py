"""Zero-shot: the log-likelihoods written out one label at a time, and where it is asked."""

import numpy as np
import torch
from small_runs import recipe, rows

import lightune
from lightune.compare.bench import Bench
from lightune.compare.contenders import ZERO_SHOT
from lightune.compare.zero_shot import QUESTION, Chooser
from lightune.recipe import load_recipe
from lightune.types import HeadSpec, Place, Record


def test_shares_are_those_of_the_labels_tokens_behind_the_text(tiny, tmp_path):
    made = load_recipe(recipe(tiny("llama-lm"), data=rows()))
    labels = ("neg", "positive as can be", "so-so", "x", "y", "z")
    texts = ["the film is good", "a", "the film is bad number 7 of all"]
    records = [Record({"text": text}, Place("f", i)) for i, text in enumerate(texts)]
    bench = Bench(records, tmp_path)
    found = Chooser(made, labels, False, bench)(records)
    base = bench.load(made.model, HeadSpec("causal_lm"), 0)
    for row, text in enumerate(texts):
        prompt = base.tokenizer(text)["input_ids"]
        prompt += base.tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
        means = []
        for label in labels:
            name = base.tokenizer(f" {label}", add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logits = base.model(input_ids=torch.tensor([prompt + name])).logits[0]
            logs = torch.log_softmax(logits, -1)
            told = [logs[len(prompt) + k - 1, token].item() for k, token in enumerate(name)]
            means.append(np.mean(told))
        shares = np.exp(means) / np.exp(means).sum()
        assert np.allclose(found[row], shares, atol=1e-4)


def test_a_decoder_is_asked_by_names_and_not_by_numbers(tiny, tmp_path):
    for labels, asked in ((("neg", "pos"), True), (("0", "1"), False)):
        table = [row | {"label": labels[i % 2]} for i, row in enumerate(rows(count=12))]
        found = lightune.compare(
            recipe(tiny("llama-lm"), data=table, max_steps=1),
            out=tmp_path / "-".join(labels),
            methods=["head"],
            folds=2,
            silent=True,
        )
        names = {standing.contender for standing in found.findings.standings}
        assert (ZERO_SHOT in names) == asked
