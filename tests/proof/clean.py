"""Trainings with nothing wrong: nine tasks, each with methods that its tiny model takes.

A random encoder answers the same to every text, and a run that cannot learn is rightly warned of.
So where an encoder learns, its base is one that was trained on that task before, and has lost its
head. Rates are forty times a method's own, at most 0.05, as a model of width 32 has more to learn
in 150 steps than a real one.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from ground import Ground, labelled
from safetensors.torch import load_file, save_file

from lightune.methods.base import methods

Rows = list[dict[str, Any]]
WORDS = (
    "film good great joy watch bad dull boring worth time free prize call win cash text home later "
    "coming market shares company rose report see you what are the and now back stop your"
)
ALL = (
    "lora dora lora_plus full bitfit norm_tuning ia3 bottleneck prompt_tuning p_tuning "
    "prefix_tuning last_layers head"
)
SOME = ("lora", "full", "bottleneck", "bitfit", "ia3", "prefix_tuning")
WRITTEN = ("lora", "full", "dora", "bottleneck", "prefix_tuning")


def sentence(chance: Random, least: int = 5, most: int = 12) -> str:
    return " ".join(chance.choices(WORDS.split(), k=chance.randint(least, most)))


def _pairs() -> Rows:
    """Return questions and answers: the answer is the first word."""
    chance = Random(1)
    texts = [sentence(chance) for _ in range(80)]
    return [{"source": text, "target": text.split()[0]} for text in texts]


def _questions() -> Rows:
    chance = Random(2)
    rows = []
    for _ in range(80):
        words = sentence(chance).split()
        answer = {"text": words[0], "answer_start": 0}
        rows.append(
            {"question": "which is first?", "context": " ".join(words), "answers": [answer]}
        )
    return rows


def _tags() -> Rows:
    chance = Random(3)
    rows = []
    for _ in range(80):
        words = sentence(chance).split()
        rows.append({"tokens": words, "tags": ["B-V" if w < "f" else "O" for w in words]})
    return rows


def _several() -> Rows:
    chance = Random(4)
    rows = []
    for _ in range(160):
        text = sentence(chance)
        labels = [word for word in ("film", "cash", "home", "the") if word in text.split()]
        rows.append({"text": text, "label": labels or ["none"]})
    return rows


def _classes() -> Rows:
    chance = Random(5)
    rows = []
    for number in range(160):
        label = ("film", "cash", "home")[number % 3]
        rest = [w for w in sentence(chance).split() if w not in ("film", "cash", "home")]
        text = " ".join([label, rest[0], label, rest[1], label, *rest[2:4]])
        rows.append({"text": text, "label": f"of {label}"})
    return rows


def _two() -> Rows:
    chance = Random(6)
    rows = []
    for number in range(160):
        text, other = sentence(chance, 2, 4), sentence(chance, 1, 2)
        word = ("good", "bad")[number % 2]
        rows.append({"text": text, "text_pair": f"{word} {other} {word} {word}", "label": word})
    return rows


def _numbers() -> Rows:
    chance = Random(7)
    texts = [sentence(chance) for _ in range(120)]
    return [{"text": text, "score": float(text.count("o"))} for text in texts]


def _asked() -> Rows:
    return [{"prompt": row["source"], "completion": row["target"]} for row in _pairs()]


def _texts() -> Rows:
    chance = Random(8)
    return [{"text": sentence(chance)} for _ in range(80)]


SHORT = {"max_new_tokens": 4}

SETS: dict[str, tuple[Any, str, Callable[[], Rows], tuple[str, ...]]] = {
    "two classes": ("classification", "bert", lambda: labelled(160), tuple(ALL.split())),
    "three classes": ("classification", "roberta", _classes, SOME[:4]),
    "several labels": ("classification", "distilbert", _several, ("lora", "full", "bottleneck")),
    "pairs of texts": ("classification", "bert", _two, ("lora", "full")),
    "numbers": ("regression", "bert", _numbers, SOME),
    "questions": ("question_answering", "bert", _questions, SOME[:4]),
    "words": ("token_classification", "bert", _tags, SOME[:4]),
    "answers": ({"name": "instruct", **SHORT}, "llama-lm", _asked, WRITTEN),
    "language": ({"name": "language_modeling", **SHORT}, "gpt2-lm", _texts, WRITTEN[:4]),
    "translation": ({"name": "translation", **SHORT}, "bart-seq2seq", _pairs, WRITTEN[:3]),
    "summaries": ({"name": "summarization", **SHORT}, "t5-seq2seq", _pairs, WRITTEN[:3]),
    "text to text": ({"name": "text2text", **SHORT}, "llama-lm", _pairs, WRITTEN[:2]),
}
"""What is learnt -> task, tiny model, rows, methods."""


def base(ground: Ground, name: str, task: Any, data: Any, tiny: Path) -> Path:
    """Return the folder of a base model whose encoder was trained on a task and lost its head."""
    folder = ground.place / f"base of {name}"
    if not folder.exists():
        changes = {"task": task, "model": tiny, "data": data, "max_steps": 250}
        ground.train("full", **changes, learning_rate=2e-3)
        shutil.copytree(tiny, folder)
        file = folder / "model.safetensors"
        trained = load_file(ground.out / "adapter" / "model.safetensors")
        prefix = f"{json.loads((tiny / 'config.json').read_text())['model_type']}."
        encoder = {key: trained.get(prefix + key, old) for key, old in load_file(file).items()}
        save_file(encoder, file, metadata={"format": "pt"})
    return folder


def _changes(name: str, method: str) -> Callable[[Ground], dict[str, Any]]:
    task, family, rows, _ = SETS[name]

    def given(ground: Ground) -> dict[str, Any]:
        file = ground.rows(name.replace(" ", "-"), rows())
        rate = min(40 * methods()[method].learning_rate, 0.05)
        data = {"train": file, "test": 0.3}
        model = ground.model(family)
        if "-" not in family:
            model = base(ground, name, task, data, model)
        return {
            "task": task,
            "model": model,
            "data": data,
            "learning_rate": rate,
            "max_steps": 150,
        }

    return given


CLEAN = [
    (f"{name}: {method}", (method, _changes(name, method)))
    for name, (_, _, _, taking) in SETS.items()
    for method in taking
]
