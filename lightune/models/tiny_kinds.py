"""Every kind of model that methods are promised to work on, as tiny random models.

    kind = KINDS["llama-lm"]
    model = kind.build(seed=0)                        # frozen, in eval mode
    output = model(**kind.inputs(model, rows))        # rows: lists of token ids

A kind is an architecture in one form: a classifier, a language model, an encoder–decoder that
writes, or an image classifier. What Transformers has no classifier of (Marian) or what reads no
text (ViT) is here in the form that it has: methods see a Transformers model, not a task.

Used by the contract test and by the probe that writes the table of what works with what. To add a
kind, add a line to `KINDS`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForSeq2SeqLM,
    MarianConfig,
    ViTConfig,
)

from lightune.models.tiny import BART, CONFIGS, MAX_LENGTH, build, tiny_config, tiny_tokenizer
from lightune.types import HeadSpec

Form = Literal["classifier", "lm", "seq2seq", "image"]

LABELS = ("no", "maybe", "yes")
_HEAD = HeadSpec("sequence_classification", LABELS)
_AUTO = {"lm": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM}
_MARIAN = {
    "vocab_size": 400,
    "decoder_vocab_size": 400,
    **BART,
    "max_position_embeddings": MAX_LENGTH,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "forced_eos_token_id": None,
    "decoder_start_token_id": 0,
}
_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 16,
    "patch_size": 8,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One architecture in one form.

    Attributes:
        name: its key in `KINDS`.
        family: key of `models.tiny.CONFIGS`, or `marian` or `vit`.
        form: what its output is.
    """

    name: str
    family: str
    form: Form

    @property
    def classifies(self) -> bool:
        """It gives one row of logits for an input, by an output layer that a task trains."""
        return self.form in ("classifier", "image")

    @property
    def decodes(self) -> bool:
        """Each position sees only those before it, so that texts may be padded on either side."""
        return self.family in CONFIGS and CONFIGS[self.family][1] == "decoder"

    def build(self, seed: int = 0) -> Any:
        """Return the random model, frozen and in eval mode; the global random state is kept.

        Biases and norms are random too: at their usual start of zeros and ones, a method that
        forgets a bias would look right.
        """
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.default_generator.manual_seed(seed)
            model = self._random(seed)
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model.eval().requires_grad_(False)

    def _random(self, seed: int) -> Any:
        if self.form == "classifier":
            return build(self.family, _HEAD, seed)[0]
        if self.family == "marian":
            return AutoModelForSeq2SeqLM.from_config(MarianConfig(**_MARIAN))
        if self.family == "vit":
            config = ViTConfig(**_VIT, num_labels=len(LABELS))
            return AutoModelForImageClassification.from_config(config)
        tokenizer = tiny_tokenizer(CONFIGS[self.family][1])
        config = tiny_config(self.family, tokenizer)
        if config.pad_token_id is None:
            config.pad_token_id = config.eos_token_id
        return _AUTO[self.form].from_config(config)

    def inputs(
        self,
        model: Any,
        rows: Sequence[Sequence[int]],
        width: int | None = None,
        left: bool = False,
    ) -> dict[str, Tensor]:
        """Return the keyword arguments of `model` for `rows` as one batch.

        Args:
            model: what `build` gave.
            rows: token ids above 4; for images, seeds of their pixels.
            width: pad to this many tokens; by default to the longest row.
            left: pad before the text, with position ids that count from its first token.
        """
        if self.form == "image":
            return {"pixel_values": torch.stack([_pixels(row) for row in rows])}
        if not self.decodes and CONFIGS.get(self.family, ("", "seq2seq"))[1] == "seq2seq":
            rows = [[*row, model.config.eos_token_id] for row in rows]
        width = max(width or 0, *map(len, rows))
        ids = torch.full((len(rows), width), int(model.config.pad_token_id))
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):
            part = slice(width - len(row), None) if left else slice(0, len(row))
            ids[i, part], mask[i, part] = torch.tensor(list(row)), 1
        found = {"input_ids": ids, "attention_mask": mask}
        if left:
            found["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
        if self.form == "seq2seq":
            start = int(model.config.decoder_start_token_id)
            found["decoder_input_ids"] = torch.tensor([[start, 7, 9]] * len(rows))
        return found


def _pixels(row: Sequence[int]) -> Tensor:
    """Return an image `[3, 16, 16]` that the numbers of `row` decide."""
    return torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(sum(row)))


def _named(families: Sequence[str], form: Form, suffix: str) -> dict[str, Kind]:
    return {f"{family}{suffix}": Kind(f"{family}{suffix}", family, form) for family in families}


_DECODERS = [family for family, entry in CONFIGS.items() if entry[1] == "decoder"]

KINDS: dict[str, Kind] = {
    **_named(list(CONFIGS), "classifier", ""),
    **_named(_DECODERS, "lm", "-lm"),
    **_named(["t5", "bart", "marian"], "seq2seq", "-seq2seq"),
    **_named(["vit"], "image", ""),
}
"""`{name: kind}`: classifiers under the family's own name, language models with `-lm`."""
