"""For each task ten records that a tiny model can learn by heart, for the contract test.

To add a task, add one line to `LEARNABLE`.
"""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Learnable:
    """What the contract trains a task on.

    Attributes:
        rows: ten rows with columns that are recognised.
        perfect: metrics, and what they are at least when all is learnt.
        settings: of the task.
        train: of the training, where the usual ones do not suffice.
        family: of the tiny model.
    """

    rows: list[dict[str, Any]]
    perfect: dict[str, float]
    settings: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    family: str = "bert"


WORDS = ("good", "bad", "dull", "great", "boring", "free", "prize", "home", "late", "cash")

WRITTEN = ("good film", "bad", "so dull", "win cash now", "see you at home")
WRITTEN += ("free prize", "great joy", "boring", "call later", "the report")
PAIRS = [
    {"source": f"what is {letter}?", "target": text}
    for letter, text in zip("abcdefghij", WRITTEN, strict=True)
]
SHORT = {"max_new_tokens": 20}
FAST = {"learning_rate": 1e-2}

LEARNABLE: dict[str, Learnable] = {
    "classification": Learnable(
        [{"text": f"the film is {w}", "label": "ab"[i % 2]} for i, w in enumerate(WORDS)],
        {"accuracy": 1.0},
    ),
    "regression": Learnable(
        [{"text": f"the film is {w}", "score": 100.0 + 10 * i} for i, w in enumerate(WORDS)],
        {"pearson": 0.98, "r2": 0.95},
    ),
    "question_answering": Learnable(
        [
            {
                "question": ("first?", "last?")[i % 2],
                "context": f"the {w} film is {WORDS[i - 1]}",
                "answers": [(w, WORDS[i - 1])[i % 2]],
            }
            for i, w in enumerate(WORDS)
        ],
        {"exact_match": 1.0, "f1": 1.0},
    ),
    "token_classification": Learnable(
        [
            {
                "tokens": ["the", w, "film", "is", WORDS[i - 1]],
                "tags": ["O", "B-W", "I-W", "O", "B-V"] if i % 2 else ["O", "O", "B-F", "O", "O"],
            }
            for i, w in enumerate(WORDS)
        ],
        {"f1": 1.0, "precision": 1.0, "recall": 1.0},
    ),
    "instruct": Learnable(
        [{"prompt": pair["source"], "completion": pair["target"]} for pair in PAIRS],
        {"exact_match": 1.0, "rouge_l": 1.0},
        SHORT,
        FAST,
        "llama-lm",
    ),
    "code_generation": Learnable(
        [
            {"prompt": f"{pair['source']} in code", "code": f"def f():\n    return {i}"}
            for i, pair in enumerate(PAIRS)
        ],
        {"log_likelihood": -0.2},
        SHORT,
        FAST,
        "llama-lm",
    ),
    "language_modeling": Learnable(
        [{"text": f"{w} film {i}"} for i, w in enumerate(WORDS)],
        {"log_likelihood": -1.0},
        {"max_new_tokens": 5},
        FAST,
        "gpt2-lm",
    ),
    "translation": Learnable(PAIRS, {"chrf": 99.9}, SHORT, FAST, "bart-seq2seq"),
    "summarization": Learnable(PAIRS, {"rouge_l": 1.0, "rouge_1": 1.0}, SHORT, FAST, "t5-seq2seq"),
    "text2text": Learnable(PAIRS, {"chrf": 99.9, "rouge_l": 1.0}, SHORT, FAST, "llama-lm"),
}
