"""Windows of long passages: nothing lost, answers where they stand, the best span of all."""

import numpy as np
import pytest

from lightune.errors import ConfigError
from lightune.models.tiny import CONFIGS, tiny_tokenizer
from lightune.tasks.windows import best_span, cut

PASSAGE = " ".join(f"the film number {i} is good." for i in range(20))
KINDS = sorted({kind for _, kind, _ in CONFIGS.values()})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", [PASSAGE, "这部电影很好看。" * 12, "one", "[SEP] </s> text"])
def test_windows_hold_every_character_and_overlap(kind, text):
    tokenizer = tiny_tokenizer(kind)
    windows, lost = cut("what film?", text, tokenizer, 48, 10)
    assert lost == 0
    held = set()
    for window in windows:
        assert len(window.inputs["input_ids"]) == len(window.places) <= 48
        for start, end in filter(None, window.places):
            held.update(range(start, end))
    assert {i for i, c in enumerate(text) if not c.isspace()} <= held
    whole = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    inner = sum(sum(p is not None for p in w.places) for w in windows)
    assert inner == len(whole) + 10 * (len(windows) - 1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_found_again_by_its_tokens(kind):
    windows, _ = cut("what?", PASSAGE, tiny_tokenizer(kind), 48, 24)
    start = PASSAGE.index("number 13")
    end = start + len("number 13")
    spans = [(w, s) for w in windows if (s := w.tokens_of(start, end))]
    assert spans
    for window, (first, last) in spans:
        found = PASSAGE[window.places[first][0] : window.places[last][1]]
        assert found.strip() == "number 13"
    without = [w for w in windows if w.tokens_of(start, end) is None]
    assert without


def test_a_long_question_is_cut_and_counted():
    tokenizer = tiny_tokenizer("cls")
    question = "what " * 60
    windows, lost = cut(question, PASSAGE, tokenizer, 48, 10)
    tokens = len(tokenizer(question, add_special_tokens=False)["input_ids"])
    assert lost == tokens - (48 - 3) // 2
    assert all(len(w.inputs["input_ids"]) <= 48 for w in windows)


def test_no_room_is_an_error():
    with pytest.raises(ConfigError, match="no room for a passage"):
        cut("what film?", PASSAGE, tiny_tokenizer("cls"), 12, 4)


def test_the_best_span_is_that_of_trying_all():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size, longest = int(rng.integers(1, 12)), int(rng.integers(1, 6))
        start, end = rng.normal(size=(2, size + 3)).astype(np.float32)
        places = [(i, i + 1) if rng.random() < 0.7 else None for i in range(size)]
        spans = [
            (float(start[i]) + float(end[j]), i, j + 1)
            for i in range(size)
            for j in range(i, min(i + longest, size))
            if places[i] and places[j]
        ]
        wanted = max(spans, default=(-np.inf, 0, 0))
        assert best_span(start, end, places, longest) == wanted
