"""Layouts of conversations, and what of their tokens is learnt."""

import json

import numpy as np
import pytest

from lightune.errors import DataError, ModelError
from lightune.models.tiny import tiny_tokenizer
from lightune.tasks import chat_template
from lightune.tasks.chat import Turn, turns_of
from lightune.tasks.chat_template import NO_LABEL, Encoder, end_token, install
from lightune.types import Place, Record

PLACE = Place("d.jsonl", 7)
CHATML = (
    "{% for m in messages %}{{ '<s>' + m['role'] + '\n' + m['content'] + '</s>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<s>assistant\n' }}{% endif %}"
)


def record(**values):
    return Record(values, PLACE)


def said(turns):
    return [(turn.role, turn.content) for turn in turns]


ASKED = [("user", "hi"), ("assistant", "ho")]
MESSAGES = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"messages": MESSAGES}, ASKED),
        ({"messages": json.dumps(MESSAGES)}, ASKED),
        ({"messages": np.array(MESSAGES, dtype=object)}, ASKED),
        ({"messages": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]}, ASKED),
        (
            {"messages": [{"role": "developer", "content": "be"}, *MESSAGES]},
            [("system", "be"), *ASKED],
        ),
        ({"messages": MESSAGES, "system": "be"}, [("system", "be"), *ASKED]),
        ({"prompt": "hi", "answer": "ho"}, ASKED),
        ({"prompt": "hi"}, ASKED[:1]),
        ({"prompt": "hi", "context": "", "answer": "ho"}, ASKED),
        (
            {"prompt": "sum", "context": "1 2", "answer": "3"},
            [("user", "sum\n\n1 2"), ("assistant", "3")],
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, ASKED[:1]),
    ],
    ids=str,
)
def test_layouts_give_turns(values, expected):
    assert said(turns_of(record(**values))) == expected


def test_a_system_prompt_of_the_recipe_stands_before_those_that_have_none():
    own = [{"role": "system", "content": "own"}, *MESSAGES]
    assert turns_of(record(messages=own), "mine")[0].content == "own"
    assert said(turns_of(record(messages=MESSAGES), "mine"))[0] == ("system", "mine")


USER, BOT = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}


@pytest.mark.parametrize(
    ("messages", "problem"),
    [
        ([BOT, USER], "turn 1 is the assistant's"),
        ([USER, USER], "turn 2 is the user's"),
        ([USER, BOT, {"role": "system", "content": "be"}], "turn 3 is the system's"),
        ([{"role": "tool", "content": "x"}], "nobody is known as 'tool'"),
        ([USER, {"role": "assistant", "content": None}], "turn 2 has no text"),
        ([USER, BOT | {"tool_calls": [{"id": 1}]}], "not read here: tool_calls"),
        ([USER, BOT | {"weight": 0.5}], "a weight is 0 or 1"),
        ([{"role": "user", "content": [{"type": "image"}]}], "turn 1 is not text alone"),
        ([{"role": "user", "content": " "}, BOT], "nothing is asked"),
        (["hi"], "turn 1 is not a mapping"),
        ("[{", "are not JSON"),
        pytest.param("[" * 50_000, "are not JSON", id="deep"),
        ({"role": "user"}, "not a list"),
        ([{"role": "system", "content": "be"}], "nothing is asked"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_read_names_the_row(messages, problem):
    with pytest.raises(DataError, match=f"^d.jsonl:7: .*{problem}"):
        turns_of(record(messages=messages))


@pytest.fixture(params=[None, CHATML], ids=["default", "own"])
def encoder(request):
    tokenizer = tiny_tokenizer("decoder")
    tokenizer.chat_template = request.param
    install(tokenizer, None)
    return Encoder(tokenizer, end_token(tokenizer))


TALK = [
    Turn("system", "be nice"),
    Turn("user", "what time"),
    Turn("assistant", "the film. Now"),
    Turn("user", "is it"),
    Turn("assistant", "late"),
]


def learnt(encoder, chat):
    """The texts of the runs of labelled tokens."""
    runs, run = [], []
    for label in [*chat.labels, NO_LABEL]:
        if label != NO_LABEL:
            run.append(label)
        elif run:
            runs.append(encoder.tokenizer.decode(run))
            run = []
    return [text.lstrip() for text in runs]


def test_answers_and_their_ends_are_learnt_and_nothing_else(encoder):
    chat = encoder.encode(TALK, PLACE)
    assert learnt(encoder, chat) == ["the film. Now</s>", "late</s>"]
    assert all(
        label in (NO_LABEL, token) for token, label in zip(chat.ids, chat.labels, strict=True)
    )
    assert encoder.tokenizer.decode(chat.ids).replace(" ", "") == (
        encoder.tokenizer.apply_chat_template([t.to_message() for t in TALK], tokenize=False)
    ).replace(" ", "")


@pytest.mark.parametrize("turns", [2, 3, 5])
def test_generation_starts_where_learning_starts(encoder, turns):
    begin = TALK[: turns - turns % 2] if turns < 5 else TALK[:4]
    whole = TALK[: len(begin) + 1]
    chat = encoder.encode(whole, PLACE)
    asked = encoder.encode(begin, PLACE)
    assert asked.ids == asked.prompt == chat.prompt
    assert set(asked.labels) == {NO_LABEL}
    first = len(chat.prompt)
    assert chat.labels[first - 1] == NO_LABEL
    assert chat.labels[first] == chat.ids[first]


def test_a_turn_of_weight_0_is_read_and_not_learnt(encoder):
    turns = [*TALK[:2], Turn("assistant", "the film. Now", learnt=False), *TALK[3:]]
    assert learnt(encoder, encoder.encode(turns, PLACE)) == ["late</s>"]


@pytest.mark.parametrize("text", ["</s>", "a </s> b", "<s>assistant\nyes", "x<s></s><unk>y"])
def test_the_name_of_a_special_token_in_a_text_stays_text(encoder, text):
    special = set(encoder.tokenizer.all_special_ids)
    plain = encoder.encode([Turn("user", "a"), Turn("assistant", "b")], PLACE)
    odd = encoder.encode([Turn("user", text), Turn("assistant", f"b{text}")], PLACE)
    count = [sum(token in special for token in chat.ids) for chat in (plain, odd)]
    assert count[0] == count[1]
    assert learnt(encoder, odd)[0].replace(" ", "").startswith(f"b{text}".replace(" ", ""))


def test_where_tokens_straddle_the_border_the_pieces_are_tokenised_apart():
    tokenizer = tiny_tokenizer("decoder")
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] + ' go' }}"
        "{% else %}{{ m['content'] + '</s>' }}{% endif %}{% endfor %}"
    )
    encoder = Encoder(tokenizer, end_token(tokenizer))
    turns = [Turn("user", "a"), Turn("assistant", "od film")]
    assert len(tokenizer(" good")["input_ids"]) < len(tokenizer(" go")["input_ids"]) + 2
    chat = encoder.encode(turns, PLACE)
    assert chat.prompt == encoder.encode(turns[:1], PLACE).ids
    assert learnt(encoder, chat) == ["od film</s>"]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}", "drops"),
        (
            "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}",
            "rewrites",
        ),
        ("{{ raise_exception('no system turns') }}", "refuses"),
    ],
)
def test_a_template_that_loses_an_answer_is_an_error(template, problem):
    tokenizer = tiny_tokenizer("decoder")
    tokenizer.chat_template = template
    with pytest.raises(DataError, match=f"d.jsonl:7: .*{problem}"):
        Encoder(tokenizer, tokenizer.eos_token_id).encode(TALK[1:], PLACE)


def test_a_template_without_an_end_cannot_be_learnt():
    tokenizer = tiny_tokenizer("decoder")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    with pytest.raises(ModelError, match="does not mark the end"):
        end_token(tokenizer)


def test_the_template_of_training_is_put_back():
    tokenizer = tiny_tokenizer("decoder")
    tokenizer.chat_template = CHATML
    assert install(tokenizer, "other") == "other" == tokenizer.chat_template
    bare = tiny_tokenizer("decoder")
    assert install(bare, None) == chat_template.DEFAULT == bare.chat_template
    endless = tiny_tokenizer("decoder")
    endless.eos_token = None
    with pytest.raises(ModelError, match="could never stop"):
        install(endless, None)
