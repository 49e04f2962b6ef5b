"""Classes by their names alone: a decoder says which label it would rather write behind a text.

How:        the text, then `Label:`, then each label's name; a label counts by the probability of
            its tokens there (Brown et al. 2020, arXiv:2005.14165, section 2.4), the mean of their
            logarithms, so that long names are not at a disadvantage. The shares are a softmax.
Why:        what a language model knows untrained is what training it must beat. It is asked in one
            plain way, by no art of prompts.
Not here:   labels without a letter, whose names say nothing (`contenders.py` leaves them out).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from lightune.compare.bench import Bench
from lightune.engine.plan import machine_plan, threads_of
from lightune.engine.prepare import prepare
from lightune.evaluate.predict import evaluating
from lightune.predictor import pad_id
from lightune.recipe import Recipe
from lightune.tasks.texts import text_of
from lightune.types import HeadSpec, Record

QUESTION = "\nLabel:"
LONGEST = 512
TOGETHER = 4
"""Labels whose logits over the whole vocabulary are held at a time."""


class Chooser:
    """Asks a decoder for the shares of `labels`, `[records, labels]`.

    Args:
        recipe: its model, precision and longest input count.
        bench: loads the model with its vocabulary, and knows the deadline.
    """

    def __init__(self, recipe: Recipe, labels: Sequence[str], pair: bool, bench: Bench) -> None:
        base = bench.load(recipe.model, HeadSpec("causal_lm"), recipe.train.seed)
        self.bench = bench
        self.plan = machine_plan(recipe.train.precision, recipe.train.engine)
        self.model: Any = prepare(base.model, self.plan).model
        self.tokenizer, self.pair = base.tokenizer, pair
        self.longest = min(recipe.train.max_length or LONGEST, base.max_length)
        self.names = [self._ids(f" {label}") for label in labels]
        self.question = self._ids(QUESTION)

    def __call__(self, records: Sequence[Record]) -> np.ndarray:
        with threads_of(self.plan), evaluating(self.model):
            return np.stack([self._shares(record) for record in records])

    def _ids(self, text: str) -> list[int]:
        ids = self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return list(ids)

    def _shares(self, record: Record) -> np.ndarray:
        self.bench.check_time()
        fields = ("text", "text_pair") if self.pair else ("text",)
        text = "\n".join(text_of(record, field) for field in fields)
        room = self.longest - len(self.question) - max(map(len, self.names))
        whole = self.tokenizer(text, split_special_tokens=True, verbose=False)["input_ids"]
        prompt = [*list(whole)[: max(room, 0)], *self.question]
        found = [
            self._log_likelihood(prompt, self.names[i : i + TOGETHER])
            for i in range(0, len(self.names), TOGETHER)
        ]
        logs = np.concatenate(found)
        shares = np.exp(logs - logs.max())
        return np.asarray(shares / shares.sum())

    @torch.no_grad()
    def _log_likelihood(self, prompt: list[int], names: list[list[int]]) -> np.ndarray:
        """Return the mean log-probability of each name's tokens behind the prompt."""
        width = max(map(len, names))
        fill = pad_id(self.tokenizer)
        rows = [[*prompt, *name, *[fill] * (width - len(name))] for name in names]
        ids = torch.tensor(rows, device=self.plan.device)
        mask = torch.ones_like(ids)
        for row, name in enumerate(names):
            mask[row, len(prompt) + len(name) :] = 0
        logits = self.model(input_ids=ids, attention_mask=mask).logits.float()
        logs = torch.log_softmax(logits[:, len(prompt) - 1 : -1], dim=-1)
        told = logs.gather(2, ids[:, len(prompt) :].unsqueeze(2)).squeeze(2)
        counted = mask[:, len(prompt) :]
        return ((told * counted).sum(1) / counted.sum(1)).double().cpu().numpy()
