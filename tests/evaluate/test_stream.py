"""Writing: stop words, beams and draws against Transformers; pieces of an answer as it is written;
`lightune chat`."""

import io
import json

import pytest
import torch

from lightune.conversation import Conversation
from lightune.errors import ConfigError, DataError
from lightune.evaluate.generate import before_words, generate
from lightune.evaluate.stream import Pieces, stream
from lightune.models.generation import write
from lightune.models.tiny import ENCODER_DECODERS, FAMILIES
from lightune.types import Example, Generation, HeadSpec, Place, Record
from tests.small_runs import rows, small_run

LM, SEQ2SEQ = HeadSpec("causal_lm"), HeadSpec("seq2seq_lm")
STOP = (2,)


def inputs(*prompts):
    ids = torch.tensor(prompts)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize(("family", "head"), [("llama", LM), ("bart", SEQ2SEQ), ("t5", SEQ2SEQ)])
def test_beams_are_those_of_transformers(family, head):
    model, tokenizer = (ENCODER_DECODERS if head is SEQ2SEQ else FAMILIES)[family](head)
    start = getattr(model.config, "decoder_start_token_id", None)
    model.generation_config.decoder_start_token_id = start
    how = Generation(6, STOP, beams=3, length_penalty=0.5, no_repeat_ngram=2)
    [mine] = write(model, inputs([5, 9, 11]), how, tokenizer.pad_token_id)
    theirs = model.generate(
        **inputs([5, 9, 11]),
        num_beams=3,
        length_penalty=0.5,
        no_repeat_ngram_size=2,
        max_new_tokens=6,
        eos_token_id=2,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
    )[0, 1 if head is SEQ2SEQ else 3 :].tolist()
    assert mine == theirs[: len(mine)]
    assert set(theirs[len(mine) :]) <= {tokenizer.pad_token_id}


def test_the_length_penalty_decides_between_short_and_long():
    model, _ = FAMILIES["llama"](LM)
    short, long = (
        write(model, inputs([5, 9, 11]), Generation(6, (7,), beams=4, length_penalty=p), 0)[0]
        for p in (-8.0, 8.0)
    )
    assert len(short) < len(long)


@pytest.mark.parametrize(("family", "head"), [("llama", LM), ("bart", SEQ2SEQ)])
def test_an_encoder_is_padded_as_in_training_and_a_decoder_on_the_left(family, head, monkeypatch):
    model, _ = (ENCODER_DECODERS if head is SEQ2SEQ else FAMILIES)[family](head)
    seen = []

    def recorded(model, inputs, *rest):
        seen.append(inputs["attention_mask"].tolist())
        return [[2]] * len(inputs["input_ids"])

    monkeypatch.setattr("lightune.evaluate.generate.write", recorded)
    examples = [Example(i, {"input_ids": []}, prompt=[7] * n) for i, n in enumerate((1, 3))]
    generate(model, examples, Generation(5, STOP), pad_id=0)
    assert seen == [[[1, 1, 1], [1, 0, 0] if head is SEQ2SEQ else [0, 0, 1]]]


def test_draws_follow_from_the_seed_and_leave_no_trace():
    model, _ = FAMILIES["llama"](LM)
    before = torch.get_rng_state()
    made = [
        write(model, inputs([5, 9]), Generation(12, STOP, temperature=2.0, seed=s), 0)
        for s in (1, 1, 2)
    ]
    assert made[0] == made[1] != made[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stop_word_ends_a_row_and_is_left_out():
    model, tokenizer = FAMILIES["llama"](LM)

    def decode(tokens):
        return tokenizer.decode(list(tokens), skip_special_tokens=True)

    [free] = write(model, inputs([5, 9]), Generation(12, ()), 0, decode)
    word = decode(free[4:6])
    how = Generation(12, (), stop_words=(word,))
    [ended] = write(model, inputs([5, 9]), how, 0, decode)
    assert ended == free[: len(ended)]
    assert len(ended) <= 6 < len(free)
    assert write(model, inputs([5, 9], [7, 3]), how, 0, decode)[0] == ended  # no padding behind
    assert before_words("one two three", ("three", "two")) == ("one", True)
    assert before_words("one", ()) == ("one", False)


@pytest.mark.parametrize("words", [(), ("END",)])
def test_pieces_join_to_the_answer(words):
    text = "a 电影 is EN route, then END and more"
    data, shown = text.encode(), []
    pieces = Pieces(lambda t: bytes(t).decode(errors="replace"), shown.append, (), words)
    pieces.put(torch.tensor([[1, 2, 3]]))  # the prompt
    for byte in data:
        pieces.put(torch.tensor([byte]))
        assert not any("\ufffd" in piece or "END" in piece for piece in shown if words)
    pieces.end()
    assert "".join(shown) == before_words(text, words)[0]
    assert len(shown) > 10


def test_a_stream_is_what_is_written_otherwise():
    model, tokenizer = FAMILIES["llama"](LM)
    example, how, shown = Example(0, {"input_ids": []}, prompt=[5, 9, 11]), Generation(8, STOP), []
    tokens = stream(model, example, how, pad_id=0, decode=tokenizer.decode, on_text=shown.append)
    assert [tokens] == generate(model, [example], how, pad_id=0)
    text = tokenizer.decode([t for t in tokens if t not in STOP])
    assert "".join(shown) == text


def test_an_answers_room_is_that_of_its_own_prompt(monkeypatch):
    model, _ = FAMILIES["llama"](LM)
    widths = []

    def recorded(model, inputs, *rest):
        widths.append(tuple(inputs["input_ids"].shape))
        return inputs["input_ids"].tolist()

    monkeypatch.setattr("lightune.evaluate.generate.write", recorded)
    most = model.config.max_position_embeddings
    sizes = (3, most - 5, most - 4, most - 2, most - 2)
    generate(model, [Example(0, {}, prompt=[7] * n) for n in sizes], Generation(5, STOP), pad_id=0)
    assert sorted(widths) == [(1, most - 4), (2, most - 5), (2, most - 2)]


@pytest.fixture(scope="module")
def talker(tiny, tmp_path_factory):
    made = [{"prompt": f"what is {n}?", "completion": "good film"} for n in range(8)]
    task = {"name": "instruct", "max_new_tokens": 6}
    folder = tmp_path_factory.mktemp("talk")
    return small_run(folder / "run", tiny("llama-lm"), data=made, task=task, max_length=128)


def test_a_conversation_remembers_and_forgets(talker):
    talk, shown = Conversation(talker), []
    answer = talk.say("what is 1?", shown.append)
    assert "".join(shown).strip() == answer
    assert answer == talker.predict(["what is 1?"])[0]["prediction"]
    talk.turns = [
        {"role": "user", "content": "what is 2?"},
        {"role": "assistant", "content": "good film"},
    ]
    second = talk.say("and 3?")
    whole = [*talk.turns[:2], {"role": "user", "content": "and 3?"}]
    assert second == talker.predict([Record({"messages": whole}, Place("x", 1))])[0]["prediction"]
    for number in range(4):
        talk.turns += [
            {"role": "user", "content": f"what is {number}? " * 3},
            {"role": "assistant", "content": "good film " * 3},
        ]
    talk.say("and 4?")
    assert talk.forgotten > 0
    assert talk.forgotten % 2 == 0
    assert talk.cut == 0
    talk.say("what is 1? " * 40)
    assert talk.cut > 0
    talk.forget()
    assert talk.turns == []


def test_chat_reads_lines_and_answers(talker, lightune_main, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO("what is 1?\n\n/new\nwhat is 2?\n/quit\nno\n"))
    assert lightune_main(["chat", str(talker.folder), "--max-new-tokens", "4"]) == 0
    out = capsys.readouterr().out.split("\n")
    expected = Conversation(talker, max_new_tokens=4).say("what is 1?")
    assert out[0].strip() == expected
    assert len(out) == 3
    monkeypatch.setattr("sys.stdin", io.StringIO("what is 1?\n"))
    words = ["chat", str(talker.folder), "--max-new-tokens", "4", "--json"]
    assert lightune_main(words) == 0
    [question, answer] = json.loads(capsys.readouterr().out)["turns"]
    assert question == {"role": "user", "content": "what is 1?"}
    assert answer["content"] == expected


def test_input_that_is_not_utf_8_is_named(talker, lightune_main, monkeypatch, capsys):
    given = io.BytesIO(b"hi\n" + "好\n".encode("gb18030"))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(given, encoding="utf-8"))
    assert lightune_main(["chat", str(talker.folder), "--max-new-tokens", "2"]) == 2
    assert "standard input is not UTF-8" in capsys.readouterr().err


def test_a_stop_word_of_white_space_ends_an_answer(talker, monkeypatch):
    predictor = talker.predictor
    how = Generation(6, STOP, stop_words=("\n",))
    monkeypatch.setattr(type(predictor.task), "generation", lambda *rest: how)
    monkeypatch.setattr(type(predictor), "text", lambda self, tokens: " good film\n")
    [answered] = talker.predict(["what is 1?"])
    assert (answered["prediction"], answered["finished"]) == ("good film", True)


def test_what_training_read_does_not_bind_and_answers_are_not_read(talker):
    turns = [{"role": "user", "content": "what is 1?"}]
    rows = {"messages": [turns]}, {"prompt": ["what is 1?"], "answer": ["good " * 500]}
    texts = [talker.predict(data)[0]["prediction"] for data in (*rows, {"words": ["what is 1?"]})]
    assert texts == [talker.predict(["what is 1?"])[0]["prediction"]] * 3


def test_a_question_too_long_leaves_room_for_its_answer(talker):
    [example] = talker.predictor.encode([Record({"prompt": "what is 1? " * 40}, Place("x", 1))])
    assert len(example.prompt) == talker.predictor.max_length - 6
    assert example.dropped > 0


def test_an_answer_to_compare_with_is_missed_before_anything_is_written(talker, monkeypatch):
    monkeypatch.setattr(type(talker.predictor), "predict", None)
    with pytest.raises(DataError, match="no answer to compare with"):
        talker.predictor.score([Record({"prompt": "what is 1?"}, Place("x", 1))])


def test_a_run_that_forgets_takes_no_system_prompt(talker, monkeypatch):
    monkeypatch.setattr(Conversation, "remembers", False)
    with pytest.raises(ConfigError, match="takes no system prompt"):
        Conversation(talker, "be brief")


def test_a_run_that_does_not_write_cannot_talk(tiny, tmp_path):
    run = small_run(tmp_path / "run", tiny("bert"), data=rows(count=10))
    with pytest.raises(ConfigError, match="does not write texts"):
        Conversation(run)
    assert json.loads((run.folder / "eval.json").read_text())["steps"] == 2


@pytest.fixture
def lightune_main():
    from lightune.cli.main import main

    return main
