"""Turns -> one text by the base model's chat template -> tokens, and which of them are learnt.

Learnt:     of each answer its own tokens and the token that ends the turn, so that the model
            learns to stop; nothing of the prompt, of role headers, or of the white space that the
            template puts behind an answer.
How:        an answer begins where the text rendered up to it, with the header that invites the
            assistant to speak, ends. Tokens are those of the whole text; where a token would
            straddle such a border, the pieces are tokenised apart, so that what is learnt begins
            exactly where generation will begin.
Invariants: a special token that a user wrote (`</s>` in a web page) stays ordinary text. A
            template that drops or rewrites an answer is an error.
Template:   the base model's; `DEFAULT` for models that have none. It is kept in the adapter's
            manifest and put on the tokenizer whenever the run is opened.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from jinja2.exceptions import TemplateError

from lightune.errors import DataError, ModelError
from lightune.tasks.chat import Turn
from lightune.types import Place

DEFAULT = (
    "{% if bos_token %}{{ bos_token }}{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\n\n' }}"
    "{% elif message['role'] == 'user' %}"
    "{{ '### Instruction:\n' + message['content'] + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + message['content'] + eos_token + '\n\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Response:\n' }}{% endif %}"
)
"""For models without a template: Alpaca's headers, and the end token after each answer."""

NO_LABEL = -100


@dataclass(slots=True)
class Chat:
    """A conversation as the model reads it.

    Attributes:
        ids: tokens.
        labels: for each token its id where it is learnt, else `NO_LABEL`.
        prompt: tokens up to where the last answer begins.
    """

    ids: list[int]
    labels: list[int]
    prompt: list[int] = field(default_factory=list)


def install(tokenizer: Any, template: str | None) -> str:
    """Put a chat template on the tokenizer and return it.

    Args:
        template: of an earlier training; None takes the tokenizer's own, or `DEFAULT`.

    Raises:
        ModelError: `DEFAULT` is needed, and the tokenizer has no end token to stop at.
    """
    chosen = template or (tokenizer.get_chat_template() if _has_one(tokenizer) else None)
    if chosen is None:
        if tokenizer.eos_token is None:
            raise ModelError(
                "the model has neither a chat template nor an end token: it could never stop",
                found=f"special tokens: {tokenizer.special_tokens_map}",
                mend="set `eos_token` in the model's tokenizer_config.json, or take another model",
            )
        chosen = DEFAULT
    tokenizer.chat_template = chosen
    return str(chosen)


def fitted(tokenizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Return a task's `state` with `chat_template`, put on the tokenizer, and `end`, the token
    that ends an answer.

    Raises:
        ModelError: see `install` and `end_token`.
    """
    before = state.get("chat_template")
    template = install(tokenizer, before)
    notes = list(state.get("notes", ()))
    if before is None and template == DEFAULT:
        notes.append("the model has no chat template: a plain one is used and kept with it")
    return {**state, "chat_template": template, "end": end_token(tokenizer), "notes": notes}


def _has_one(tokenizer: Any) -> bool:
    return isinstance(tokenizer.chat_template, str | dict) and bool(tokenizer.chat_template)


def end_token(tokenizer: Any) -> int:
    """Return the token that ends an answer: the first special one behind it in the template.

    Raises:
        ModelError: the template puts none there, so that the end could not be learnt.
    """
    turns = [Turn("user", "a"), Turn("assistant", "b")]
    start, whole = _render(tokenizer, turns[:1], True), _render(tokenizer, turns, False)
    special = set(tokenizer.all_special_ids) | set(_added(tokenizer).values())
    if whole.startswith(start):
        behind = whole[len(start) :].partition("b")[2]
        for token in tokenizer(behind, add_special_tokens=False)["input_ids"]:
            if token in special:
                return int(token)
    raise ModelError(
        "the model's chat template does not mark the end of an answer",
        found=f"{whole!r:.200}",
        mend="a model whose template ends each turn with a special token",
    )


class Encoder:
    """Turns to tokens, by one tokenizer and its template.

    Args:
        tokenizer: with a chat template.
        end: the token that ends an answer.
    """

    def __init__(self, tokenizer: Any, end: int) -> None:
        self.tokenizer, self.end = tokenizer, end
        words = [*tokenizer.all_special_tokens, *_added(tokenizer)]
        self.special = sorted({str(word) for word in words}, key=len, reverse=True)

    def encode(self, turns: Sequence[Turn], place: Place) -> Chat:
        """Return the tokens of a conversation that may end with a question or an answer.

        Raises:
            DataError: the template refuses these turns, or drops an answer.
        """
        asked = list(turns)
        if asked[-1].role != "assistant":
            text = self._text(asked, True, place)
            ids = self._tokens(text, self._written(text, asked, True, place))
            return Chat(ids, [NO_LABEL] * len(ids), ids)
        text = self._text(asked, False, place)
        borders: list[tuple[int, int, bool]] = []
        for i, turn in enumerate(asked):
            if turn.role == "assistant":
                begin = self._text(asked[:i], True, place)
                upto = self._text(asked[: i + 1], False, place)
                if not (text.startswith(begin) and text.startswith(upto)):
                    raise self._dropped(place, turn, "rewrites what stands before an answer")
                if turn.content.strip() not in upto[len(begin) :]:
                    raise self._dropped(place, turn, "drops an answer")
                borders.append((len(begin), len(upto), turn.learnt))
        return self._label(text, borders, self._written(text, asked, False, place))

    def _label(
        self, text: str, borders: list[tuple[int, int, bool]], written: list[tuple[int, int]]
    ) -> Chat:
        """Tokenise `text`; label what lies between the borders, up to the token that ends it."""
        ids = self._tokens(text, written)
        points = [point for border in borders for point in border[:2]]
        upto = [self._tokens(text, written, stop=point) for point in points]
        cuts = [len(tokens) for tokens in upto]
        if any(ids[: len(tokens)] != tokens for tokens in upto):
            ids, cuts = self._apart(text, points, written)
        labels = [NO_LABEL] * len(ids)
        for (_, _, learnt), begin, stop in zip(borders, cuts[::2], cuts[1::2], strict=True):
            span = ids[begin:stop]
            # nothing behind the end token: generation stops there
            last = len(span) - span[::-1].index(self.end) if self.end in span else len(span)
            if learnt:
                labels[begin : begin + last] = span[:last]
        return Chat(ids, labels, ids[: cuts[-2]])

    def _apart(
        self, text: str, points: list[int], written: list[tuple[int, int]]
    ) -> tuple[list[int], list[int]]:
        """Tokenise the pieces between `points` each alone; return tokens and where each ends."""
        ids: list[int] = []
        cuts: list[int] = []
        for begin, stop in zip([0, *points], [*points, len(text)], strict=True):
            ids += self._tokens(text, written, begin, stop)
            cuts.append(len(ids))
        return ids, cuts[:-1]

    def _text(self, turns: Sequence[Turn], invite: bool, place: Place) -> str:
        try:
            return _render(self.tokenizer, turns, invite)
        except TemplateError as error:
            raise DataError(
                f"{place}: the model's chat template refuses these turns",
                found=f"{error}; {' → '.join(t.role for t in turns)}",
                mend="turns as the model expects them, or another model",
            ) from None

    def _tokens(
        self, text: str, written: list[tuple[int, int]], start: int = 0, stop: int | None = None
    ) -> list[int]:
        """Return the tokens of `text[start:stop]`; what lies in `written` is ordinary text."""
        ids: list[int] = []
        end = len(text) if stop is None else stop
        inside = [span for span in written if start <= span[0] and span[1] <= end]
        for begin, until in [*inside, (end, end)]:
            for piece, plain in ((text[start:begin], False), (text[begin:until], True)):
                if piece:
                    options = {"add_special_tokens": False, "verbose": False}
                    found = self.tokenizer(piece, split_special_tokens=plain, **options)
                    ids += found["input_ids"]
            start = until
        return ids

    def _written(
        self, text: str, turns: Sequence[Turn], invite: bool, place: Place
    ) -> list[tuple[int, int]]:
        """Return where the user wrote the name of a special token, as spans of the rendered text.

        Raises:
            DataError: the template changes such a turn, so that it is not found again.
        """
        if not any(word in turn.content for turn in turns for word in self.special):
            return []
        marks = [f"\ue000{i}\ue001" for i in range(len(turns))]
        marked = [replace(turn, content=mark) for turn, mark in zip(turns, marks, strict=True)]
        around = re.split("\ue000\\d+\ue001", self._text(marked, invite, place))
        names = re.compile("|".join(map(re.escape, self.special)))
        for contents in ([t.content for t in turns], [t.content.strip() for t in turns]):
            joined = "".join(f"{a}{c}" for a, c in zip(around, [*contents, ""], strict=False))
            if len(around) == len(turns) + 1 and joined == text:
                spans, at = [], 0
                for before, content in zip(around, contents, strict=False):
                    at += len(before)
                    spans += [(at + m.start(), at + m.end()) for m in names.finditer(content)]
                    at += len(content)
                return spans
        raise DataError(
            f"{place}: a turn holds the name of a special token, which the model's chat template "
            "would turn into that token",
            found=", ".join(word for word in self.special if any(word in t.content for t in turns)),
            mend="write it otherwise, with a space in it for example",
        )

    def _dropped(self, place: Place, turn: Turn, what: str) -> DataError:
        return DataError(
            f"{place}: the model's chat template {what}, so that it cannot be learnt",
            found=f"{turn.content!r:.80}",
            mend="split the conversation into one row for each answer, or take another model",
        )


def _render(tokenizer: Any, turns: Sequence[Turn], invite: bool) -> str:
    messages = [turn.to_message() for turn in turns]
    return str(
        tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=invite)
    )


def _added(tokenizer: Any) -> dict[str, int]:
    """Return the special tokens added to the vocabulary: `<|im_end|>` is not always a named one."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    return {str(token.content): int(i) for i, token in added.items() if token.special}
