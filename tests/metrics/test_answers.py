"""Scores of extracted answers: the oracle is SQuAD's definition step by step, and a table."""

import re
import string
from collections import Counter

import pytest

from lightune.metrics.answers import chinese_share, longest_run, normalise, score, segments


def normalize_answer(text):
    """SQuAD's: lower case, no punctuation, no articles, single blanks; in this order."""
    text = "".join(sign for sign in text.lower() if sign not in set(string.punctuation))
    return " ".join(re.compile(r"\b(a|an|the)\b", re.UNICODE).sub(" ", text).split())


def compute_exact(gold, answer):
    return int(normalize_answer(gold) == normalize_answer(answer))


def compute_f1(gold, answer):
    gold_tokens, tokens = normalize_answer(gold).split(), normalize_answer(answer).split()
    same = sum((Counter(gold_tokens) & Counter(tokens)).values())
    if not gold_tokens or not tokens:
        return int(gold_tokens == tokens)
    if same == 0:
        return 0
    precision, recall = same / len(tokens), same / len(gold_tokens)
    return 2 * precision * recall / (precision + recall)


PAIRS = [
    ("Denver Broncos", "Denver Broncos"),
    ("the Denver Broncos!", "denver  broncos"),
    ("a an the", "the"),
    ("", ""),
    ("", "Paris"),
    ("Paris", ""),
    ("the", ""),
    ("in Paris, France", "Paris"),
    ("Paris Paris", "Paris"),
    ("there", "the re"),
    ("U.S.", "US"),
    ("$5 million", "5 million"),
    ("state-of-the-art", "state of the art"),
    ("l'été", "l’été"),
    ("１９", "19"),
    ("Ａ", "a"),
    ("法国 巴黎", "巴黎"),
    ("_the_", "the"),
    ("\u00a0the\u3000cat\n", "cat"),
]


@pytest.mark.parametrize(("answer", "expected"), PAIRS)
def test_equal_squads_official_functions(answer, expected):
    assert normalise(answer) == normalize_answer(answer)
    wanted = expected if normalize_answer(expected) else ""
    found = score(answer, [expected])
    assert found == (compute_exact(wanted, answer), pytest.approx(compute_f1(wanted, answer)))


def test_the_best_of_several_counts_each_for_itself():
    assert score("new york city", ["york", "new york"]) == (0.0, 0.8)
    assert score("b", ["a", "b"]) == (1.0, 1.0)  # "a" is an article, and no answer
    assert score("", ["a", "b"]) == (0.0, 0.0)
    assert score("", []) == (1.0, 1.0)
    assert score("b", []) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("answer", "expected", "exact", "f1"),
    [
        ("光荣和ω-force", "光荣和ω-force", 1, 1),
        ("光荣", "光荣和ω-force", 0, 2 * 2 / (2 + 4)),
        ("《光荣》。", "光荣", 1, 1),
        ("荣光", "光荣", 0, 2 * 1 / 4),  # a run, not a bag
        ("光和荣", "光荣", 0, 2 * 1 / 5),  # and no subsequence
        ("2002年", "2002年", 1, 1),
        ("在2002年", "2002年", 0, 2 * 2 / 5),
        ("2002", "2003", 0, 0),
        ("New York", "new york", 1, 1),
        ("", "光", 0, 0),
        ("。", "光", 0, 0),
    ],
)
def test_chinese_as_cmrc_defines_it(answer, expected, exact, f1):
    assert score(answer, [expected], by_character=True) == (exact, pytest.approx(f1))


def test_segments_and_runs():
    assert segments("光荣和Omega-Force，3人") == ["光", "荣", "和", "omegaforce3", "人"]
    assert segments("a b.c") == ["a", "b", ".", "c"]
    assert longest_run("xabcy", "abzabc") == 3
    assert longest_run("", "a") == 0


def test_how_chinese_a_text_is():
    assert chinese_share(["光荣", "ab"]) == 0.5
    assert chinese_share([]) == 0
