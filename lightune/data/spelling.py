"""Whether a model's tokenizer knows the language of the texts, and spells it in words.

Why:        a model that meets its words for the first time letter by letter, or not at all, learns
            little, and nothing tells.
How:        the share of unknown tokens; and, of the texts' words alone (a digit is a token of its
            own in many vocabularies), tokens for each letter: 0.3 in a language that the tokenizer
            knows, 1 in an alphabet of which it knows the letters only, 2 and more where it has
            bytes. Characters of Chinese, Japanese and Korean are often a token each.
Not here:   how texts are tokenised to train (`tasks/`).
"""

import re
from collections.abc import Sequence
from typing import Any

from lightune.data.report import flat_texts
from lightune.runs.warned import Warned
from lightune.types import Record

UNKNOWN_SHARE = 0.1
"""Unknown tokens among all."""

PIECES, WIDE_PIECES, BYTES = 0.85, 1.3, 1000
"""Tokens for each letter, where a word is usually one or two; for each Chinese, Japanese or Korean
character, and for all letters where the vocabulary is so small that it must be bytes."""

LETTERS = re.compile(r"[^\W\d_]+")
WIDE = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]")

LOOKED_AT, READ = 300, 1000
"""Records whose texts are tried on the tokenizer, and their first so many characters."""

SHOWN = 3


def check_tokens(tokenizer: Any, records: Sequence[Record]) -> Warned | None:
    """Return a warning where the tokenizer does not know the texts' language.

    Tried on `LOOKED_AT` records, evenly spread.
    """
    chosen = list(records[:: max(1, len(records) // LOOKED_AT)])[:LOOKED_AT]
    rows = [
        (record, text[:READ])
        for record in chosen
        for name, value in record.values.items()
        if name != "label"
        for text in flat_texts(value)
        if text.strip()
    ]
    if not rows:
        return None
    texts = [text for _, text in rows]
    ids = _ids(tokenizer, texts)
    unknown = [row.count(tokenizer.unk_token_id) / max(len(row), 1) for row in ids]
    share = sum(row.count(tokenizer.unk_token_id) for row in ids) / max(sum(map(len, ids)), 1)
    spelt = [" ".join(LETTERS.findall(text)) for text in texts]  # a digit is often a token
    wide = sum(len(WIDE.findall(text)) for text in spelt)
    letters = sum(len(text) - text.count(" ") for text in spelt)
    tokens = [len(row) for row in _ids(tokenizer, spelt)]
    pieces = [count / max(len(text), 1) for count, text in zip(tokens, spelt, strict=True)]
    mean = sum(tokens) / max(letters, 1)
    most = WIDE_PIECES
    if len(tokenizer) >= BYTES:
        most = (WIDE_PIECES * wide + PIECES * (letters - wide)) / max(letters, 1)
    if share >= UNKNOWN_SHARE:
        worst = sorted(range(len(rows)), key=lambda i: -unknown[i])[:SHOWN]
        what, found = "has no words for much of the texts", f"{share:.0%} of all tokens are unknown"
    elif letters and mean >= most:
        worst = sorted(range(len(rows)), key=lambda i: -pieces[i])[:SHOWN]
        what, found = "takes words to single letters", f"{mean:.1f} tokens for each letter"
    else:
        return None
    shown = [f"{rows[i][0].place} {' '.join(texts[i].split())[:30]!r}" for i in worst]
    return Warned(
        "unknown_tokens",
        f"the model's tokenizer {what}",
        f"{found}: {', '.join(shown)}",
        "a base model that was trained on this language (`lightune models`), or another "
        "`data.encoding`",
    )


def _ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, without special tokens."""
    rows: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)[
        "input_ids"
    ]
    return rows
