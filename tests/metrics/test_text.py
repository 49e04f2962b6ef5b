"""Scores of texts, against the definition written out."""

import random

import pytest

from lightune.metrics.text import exact_match, extract, longest_common, rouge_l, words


def longest_by_table(one, other):
    """The textbook's dynamic programme."""
    row = [0] * (len(other) + 1)
    for a in one:
        before, row = row, [0]
        for j, b in enumerate(other):
            row.append(before[j] + 1 if a == b else max(before[j + 1], row[j]))
    return row[-1]


@pytest.mark.parametrize("seed", range(20))
def test_the_longest_common_subsequence_is_the_textbooks(seed):
    rng = random.Random(seed)
    one, other = (
        [rng.choice("abcde") for _ in range(rng.randint(0, 90))] for _ in range(2)
    )  # longer than a machine word
    assert longest_common(one, other) == longest_by_table(one, other)


@pytest.mark.parametrize(
    ("answer", "expected", "score"),
    [
        ("police killed the gunman", "police kill the gunman", 0.75),
        ("the gunman kill police", "police kill the gunman", 0.5),  # Lin 2004, section 3.1
        ("The cat, sat!", "the cat sat", 1.0),
        ("", "", 1.0),
        ("", "a", 0.0),
        ("...", "a", 0.0),
        ("我喜欢电影", "我不喜欢电影", 10 / 11),
        ("a b", "c d", 0.0),
    ],
)
def test_rouge_l(answer, expected, score):
    assert rouge_l(answer, expected) == pytest.approx(score)


def test_words_are_lower_case_and_chinese_ones_are_characters():
    assert words("Ein Übel, x_1 好的ok") == ["ein", "übel", "x", "1", "好", "的", "ok"]


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [("a  b\n", "a b", True), ("A b", "a b", False), ("a b.", "a b", False), ("", " ", True)],
)
def test_exact_match_ignores_white_space_only(answer, expected, same):
    assert exact_match(answer, expected) == same


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("She sells 9 * 2 = $18\n#### 18", "18"),
        ("#### 70,000", "70000"),
        ("1,000.50 dollars", "1000.5"),
        ("so the result is 5.00", "5"),
        ("#### no number, but 3 before", "3"),
        ("12 #### 7 and 8", "7"),
        ("-4", "-4"),
        ("100", "100"),
        ("none at all", None),
    ],
)
def test_number_is_the_result_of_a_calculation(text, found):
    assert extract(text, "number") == found


def test_a_pattern_gives_its_first_group_of_the_last_hit():
    assert extract("label: a, label: b ", r"label: (\w)") == "b"
    assert extract("yes or no", r"yes|no") == "no"
    assert extract("maybe", r"yes|no") is None


def test_full_width_letters_and_digits_are_words():
    assert words("\uff21\uff22\uff11\uff12 好x") == ["\uff41\uff42\uff11\uff12", "好", "x"]
