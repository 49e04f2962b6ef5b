"""Whether a tokenizer knows a language, on tokenizers made for it."""

from lightune.data.spelling import check_tokens
from lightune.models.tiny import tiny_tokenizer
from lightune.types import Place, Record


def records(*texts):
    return [Record({"text": t, "label": "x"}, Place("a.csv", i)) for i, t in enumerate(texts, 1)]


class Words:
    """A tokenizer that knows a few words."""

    unk_token_id = 0

    def __len__(self):
        return 9999

    def __call__(self, texts, **options):
        known = {"good": 1, "film": 2}
        return {"input_ids": [[known.get(w, 0) for w in text.split()] for text in texts]}


def test_a_tokenizer_that_does_not_know_the_words():
    assert check_tokens(Words(), records(*["good film"] * 19, "good xyz")) is None
    told = check_tokens(Words(), records("good film", "schlechter Film", "good"))
    assert "40% of all tokens are unknown" in told.found
    assert "a.csv:2 'schlechter Film'" in told.found
    assert check_tokens(Words(), []) is None


def test_a_tokenizer_that_takes_letters_to_pieces():
    tokenizer = tiny_tokenizer("cls")  # bytes, and the words of six sentences
    assert check_tokens(tokenizer, records("the film is good", "a wholly new word")) is None
    told = check_tokens(tokenizer, records("этот фильм", "the film"))
    assert "tokens for each letter" in told.found
    assert told.found.index("этот") < told.found.index("the film")


class Letters(Words):
    """A tokenizer that takes every word to its letters."""

    def __call__(self, texts, **options):
        return {"input_ids": [[1] * len(text.replace(" ", "")) for text in texts]}


def test_words_that_become_letters():
    told = check_tokens(Letters(), records("плохая погода 2024", "и"))
    assert "1.0 tokens for each letter" in told.found
    assert check_tokens(Letters(), records("这部电影很好看", "이 영화는")) is None
    assert check_tokens(Letters(), records("12 345 67", "8 + 9")) is None
