"""What flows between the stages: place -> record -> example -> batch -> prediction.

record   a row of the user's data by task field, with the file and line it came from
example  token ids and target of one record
batch    tensors for one forward pass
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:  # torch loads only where tensors are made, so that the command line starts fast
    from torch import Tensor

HeadKind = Literal[
    "sequence_classification",
    "regression",
    "token_classification",
    "question_answering",
    "causal_lm",
    "seq2seq_lm",
    "any_lm",
]
"""Which output layer a task needs; `models/heads.py` maps each to a Transformers auto class.
`any_lm` is a decoder's vocabulary or an encoder–decoder's, whichever the model has."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record came from: a file (or `<DataFrame>`) and its 1-based line or row."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the user's data.

    Attributes:
        values: by task field (`text`, `text_pair`, `label` …), not by the user's column name.
            A field that the data does not have is absent.
        place: for messages and for `predictions.jsonl`.
    """

    values: Mapping[str, Any]
    place: Place


@dataclass(frozen=True, slots=True)
class Example:
    """One record as the model takes it.

    Attributes:
        index: position of its record in the split, so that predictions find their record. The
            examples of a record that has several stand beside each other.
        inputs: lists of equal length by the name of the model's argument; always `input_ids`.
        target: what the task's loss needs (class id, list of class ids, one label for each
            token …); None when unlabelled.
        dropped: tokens that truncation lost.
        prompt: tokens that an answer is written after, for tasks that generate.
        source: what decoding needs to find its way back to the record's text (where in it each
            token stands …), JSON-ready.
    """

    index: int
    inputs: Mapping[str, list[int]]
    target: Any = None
    dropped: int = 0
    prompt: list[int] | None = None
    source: Any = None

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])


@dataclass(slots=True)
class Batch:
    """Tensors for one forward pass.

    Attributes:
        inputs: keyword arguments of the model's forward, each `[batch, seq]`. The attention mask
            is always among them.
        targets: `[batch]`, `[batch, classes]` or `[batch, seq]` as the task defines; None when
            unlabelled.
        indices: the `Example.index` of every row.
    """

    inputs: dict[str, Tensor]
    targets: Tensor | None
    indices: list[int]


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """The output layer a task asks of a base model.

    Attributes:
        kind: see `HeadKind`. The head of language models is their own vocabulary.
        labels: class names in the order of the logits, or what else each of them stands for;
            empty for heads without classes.
        multi_label: several classes may hold at once (sigmoid instead of softmax).
    """

    kind: HeadKind
    labels: tuple[str, ...] = ()
    multi_label: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says of one record.

    Attributes:
        index: position of the record in its split.
        value: label, list of labels, number, spans, or text; None where a text was not asked for.
        scores: class name -> probability; empty where a task has none.
        measures: further numbers of this record by name (`loss`, `tokens` …).
    """

    index: int
    value: Any
    scores: Mapping[str, float] = field(default_factory=dict)
    measures: Mapping[str, float] = field(default_factory=dict)


Purpose = Literal["validation", "test", "predict"]
"""What predictions are made for: scores while training, where time counts; scores after it; or
to be read."""


@dataclass(frozen=True, slots=True)
class Generation:
    """How answers are written.

    Attributes:
        max_new_tokens: an answer is cut here if it does not end before.
        stop: tokens that end an answer.
        stop_words: texts that end an answer and do not belong to it.
        beams: answers that are followed at a time, of which the most probable is kept.
        length_penalty: with several beams, an answer's log-probability is divided by its length
            to this power: above 0 favours long answers, below 0 short ones.
        no_repeat_ngram: no run of so many tokens is written twice; 0 for no such rule.
        temperature: 0 always writes the most probable token; above, tokens are drawn with
            logits divided by it.
        top_k: drawn among so many most probable tokens; 0 for all.
        top_p: drawn among the fewest most probable tokens that have this share together.
        seed: of the draws.
        samples: answers to each prompt, each drawn under a seed of its own.
    """

    max_new_tokens: int
    stop: tuple[int, ...]
    stop_words: tuple[str, ...] = ()
    beams: int = 1
    length_penalty: float = 1.0
    no_repeat_ngram: int = 0
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    samples: int = 1


@dataclass(frozen=True, slots=True)
class Score:
    """One metric with its 95 % interval; `low` and `high` are None where none is computed."""

    value: float
    low: float | None = None
    high: float | None = None

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}
