"""Scores of an extracted answer against the expected ones, the best of which counts.

Words:      as SQuAD's official script does (Rajpurkar et al. 2016; 2018 for no answer): lower
            case, without punctuation and the articles a, an, the; F1 of the bag of words. Answers
            that are all punctuation and articles are left out of the expected ones, and where none
            is left, no answer is expected; then only no answer is right.
Characters: as CMRC 2018's official script does (Cui et al. 2019): each Chinese character is a word
            of its own, F1 of the longest common run. What is not Chinese is split by that script
            with NLTK's tokenizer; here into words and single signs.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)
_CMRC_SIGNS = frozenset("-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』")
_CHINESE = re.compile(r"[\u4e00-\u9fa5]")
_PIECES = re.compile(r"\w+|[^\w\s]")

Pair = tuple[float, float]
"""Exact match and F1."""


def score(answer: str, expected: Sequence[str], by_character: bool = False) -> Pair:
    """Return exact match and F1, each the best over the expected answers.

    Args:
        answer: empty where the model says that there is none.
        expected: empty where there is none.
    """
    one: Callable[[str, str], Pair] = _by_character if by_character else _by_word
    said = [text for text in expected if by_character or normalise(text)] or [""]
    pairs = [one(answer, text) for text in said]
    return max(exact for exact, _ in pairs), max(f1 for _, f1 in pairs)


def normalise(text: str) -> str:
    """Return a text as SQuAD compares it."""
    bare = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def chinese_share(texts: Sequence[str]) -> float:
    """Return how much of the texts is Chinese characters."""
    every = "".join("".join(text.split()) for text in texts)
    return len(_CHINESE.findall(every)) / max(len(every), 1)


def segments(text: str) -> list[str]:
    """Return a text's Chinese characters and other words, as CMRC compares them."""
    found: list[str] = []
    other = ""
    for sign in text.lower().strip():
        if sign in _CMRC_SIGNS:
            continue
        if _CHINESE.match(sign):
            found += [*_PIECES.findall(other), sign]
            other = ""
        else:
            other += sign
    return found + _PIECES.findall(other)


def _by_word(answer: str, expected: str) -> Pair:
    said, wanted = normalise(answer), normalise(expected)
    words, others = said.split(), wanted.split()
    if not words or not others:
        return float(said == wanted), float(words == others)
    common = sum((Counter(words) & Counter(others)).values())
    return float(said == wanted), 2 * common / (len(words) + len(others))


def _by_character(answer: str, expected: str) -> Pair:
    said, wanted = _bare(answer), _bare(expected)
    one, other = segments(answer), segments(expected)
    if not one or not other:
        return float(said == wanted), float(one == other)
    return float(said == wanted), 2 * longest_run(one, other) / (len(one) + len(other))


def longest_run(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest run of segments that both have."""
    best, before = 0, [0] * (len(other) + 1)
    for segment in one:
        row = [0] * (len(other) + 1)
        for i, same in enumerate(other):
            if segment == same:
                row[i + 1] = before[i] + 1
        best, before = max(best, *row), row
    return best


def _bare(text: str) -> str:
    return "".join(sign for sign in text.lower().strip() if sign not in _CMRC_SIGNS)
