"""Scores of a written answer against the expected one: pure functions of two texts.

    exact match   equal but for white space
    ROUGE-1, -2   F of the words, or pairs of words, in both (Lin 2004)
    ROUGE-L       F of the longest common subsequence of words (Lin 2004), Chinese by character
    extraction    what a pattern, or `number`, finds in both

ROUGE splits as the `rouge-score` package does without stemming (lower case, letters and digits),
but by Unicode's letters, and each Chinese, Japanese or Korean character is a word of its own.
"""

import re
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

_CJK = r"\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORDS = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")
FINAL = "####"
"""What stands before the result in GSM8K's answers."""

NUMBER = "number"


def words(text: str) -> list[str]:
    """Return the words that ROUGE compares."""
    return _WORDS.findall(text.lower())


def exact_match(answer: str, expected: str) -> bool:
    """Whether both are the same words in the same signs, whatever the white space."""
    return answer.split() == expected.split()


def rouge_l(answer: str, expected: str) -> float:
    """Return the F score of the longest common subsequence of words; 1 where both have none."""
    said, wanted = words(answer), words(expected)
    if not said or not wanted:
        return float(said == wanted)
    common = longest_common(said, wanted)
    return 2 * common / (len(said) + len(wanted))


def rouge_n(answer: str, expected: str, n: int) -> float:
    """Return the F score of the runs of `n` words in both; 1 where both have no words."""
    said, wanted = words(answer), words(expected)
    if not said and not wanted:
        return 1.0
    one, other = (
        Counter(zip(*(text[i:] for i in range(n)), strict=False)) for text in (said, wanted)
    )
    most = one.total() + other.total()
    return 2 * (one & other).total() / most if most else 0.0


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    Bit-parallel (Hyyrö 2004): bit i of `row` is 0 where the subsequence grows at `one[i]`, so a
    step of `other` is three operations on whole numbers, however long `one` is.
    """
    where: dict[str, int] = {}
    for i, word in enumerate(one):
        where[word] = where.get(word, 0) | 1 << i
    every = (1 << len(one)) - 1
    row = every
    for word in other:
        hits = row & where.get(word, 0)
        row = ((row + hits) | (row - hits)) & every
    return len(one) - row.bit_count()


def extract(text: str, pattern: str) -> str | None:
    """Return what `pattern` finds last in a text, or None.

    Args:
        pattern: a regular expression, whose first group counts if it has one; or `number`: the
            number behind the last `####`, without one the last number, written plainly
            (`1,000.50` and `1000.5` are one).
    """
    if pattern != NUMBER:
        found = list(re.finditer(pattern, text))
        if not found:
            return None
        last = found[-1]
        kept = last.group(1) if last.re.groups else last.group()
        return None if kept is None else kept.strip()
    _, mark, behind = text.rpartition(FINAL)
    numbers = _NUMBER.findall(behind)[:1] if mark else []
    numbers = numbers or _NUMBER.findall(text)[-1:]
    if not numbers:
        return None
    return f"{Decimal(numbers[0].replace(',', '')).normalize():f}"
