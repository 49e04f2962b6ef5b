"""Translation, summarization and text2text: what they encode, learn, write and score."""

import json

import numpy as np
import pytest
import torch
from sacrebleu.metrics import BLEU, CHRF

from lightune.engine.batches import collate
from lightune.errors import ConfigErrors, DataError, ModelError
from lightune.metrics.text import rouge_l, rouge_n
from lightune.metrics.translation import bleu, chrf, splitter
from lightune.models.tiny import ENCODER_DECODERS, FAMILIES
from lightune.nn import losses
from lightune.settings import parse
from lightune.tasks.base import Resampling
from lightune.tasks.summarization import Summarization
from lightune.tasks.text2text import Text2Text
from lightune.tasks.translation import Translation
from lightune.types import HeadSpec, Place, Prediction, Record

SEQ2SEQ = {"form": "seq2seq", "notes": []}


def records(*pairs):
    rows = [{"source": source, "target": target} for source, target in pairs]
    return [Record(row, Place("d.jsonl", i + 1)) for i, row in enumerate(rows)]


PAIRS = records(("what is a?", "good film"), ("and what is b? what is it?", "bad"))


@pytest.mark.parametrize("family", ENCODER_DECODERS)
def test_the_loss_is_that_of_transformers_on_the_target(family):
    model, tokenizer = ENCODER_DECODERS[family](HeadSpec("seq2seq_lm"))
    if hasattr(model, "final_logits_bias"):
        model.final_logits_bias.normal_()
    model.config.decoder_start_token_id = 7  # not the token that pads, as it is elsewhere
    task = Translation()
    examples = task.encode(PAIRS, tokenizer, SEQ2SEQ, 64)
    batch = collate(
        examples, tokenizer.pad_token_id, lambda rows, width: task.targets(rows, SEQ2SEQ, width)
    )
    labels = batch.targets[:, 1:].contiguous()
    assert labels[0, -1] == tokenizer.eos_token_id
    expected = model(**batch.inputs, labels=labels)
    assert losses.choose(model) == []
    outputs = task.forward(model, batch, SEQ2SEQ)
    torch.testing.assert_close(task.loss(outputs, batch, SEQ2SEQ), expected.loss)
    sums = task.logits(outputs, batch)
    assert sums[:, 1].tolist() == [len(example.target) for example in examples]


def test_a_decoder_is_asked_in_its_template_and_learns_the_target_alone():
    _, tokenizer = FAMILIES["llama"](HeadSpec("causal_lm"))
    task = Text2Text(instruction="say: ")
    state = task.fit_tokenizer(tokenizer, {"form": "decoder"})
    [example, _] = task.encode(PAIRS, tokenizer, state, 128)
    learnt = [label for label in example.target if label != losses.NO_LABEL]
    assert tokenizer.decode(learnt[:-1]).strip() == "good film"
    assert learnt[-1] == state["end"]
    assert "say: what is a?" in tokenizer.decode(example.prompt)


@pytest.mark.parametrize("form", ["seq2seq", "decoder"])
def test_what_is_too_long_is_cut_and_counted(form):
    build = FAMILIES["llama"] if form == "decoder" else ENCODER_DECODERS["t5"]
    head = HeadSpec("causal_lm" if form == "decoder" else "seq2seq_lm")
    _, tokenizer = build(head)
    task = Summarization()
    state = task.fit_tokenizer(tokenizer, {"form": form})
    long = records(("what is a? " * 30, "good film"))
    [whole] = task.encode(long, tokenizer, state, 1000)
    [cut] = task.encode(long, tokenizer, state, 90)
    assert whole.dropped == 0
    assert len(cut) <= 90
    assert cut.dropped == len(whole) - len(cut) > 0
    learnt = [[t for t in e.target if t != losses.NO_LABEL] for e in (whole, cut)]
    assert learnt[0] == learnt[1]


def test_a_target_longer_than_all_is_counted_or_refused():
    _, tokenizer = ENCODER_DECODERS["t5"](HeadSpec("seq2seq_lm"))
    long = records(("what is a?", "good film " * 30))
    [example] = Translation().encode(long, tokenizer, SEQ2SEQ, 16)
    assert len(example.target) == 15
    assert example.dropped > 0
    assert tokenizer.eos_token_id not in example.target
    _, tokenizer = FAMILIES["llama"](HeadSpec("causal_lm"))
    state = Translation().fit_tokenizer(tokenizer, {"form": "decoder"})
    with pytest.raises(DataError, match=r"^d.jsonl:1: the target alone is longer"):
        Translation().encode(long, tokenizer, state, 40)


@pytest.mark.parametrize(
    ("target", "problem"),
    [("", "missing or empty"), (None, "missing"), (" ", "missing"), (["a", ""], "neither a text")],
)
def test_a_row_without_target_is_an_error_that_names_it(target, problem):
    with pytest.raises(DataError, match=rf"^d.jsonl:2: .*{problem}"):
        Translation().check(records(("a", "b"), ("c", target)))


def test_a_model_of_many_languages_is_refused():
    _, tokenizer = ENCODER_DECODERS["t5"](HeadSpec("seq2seq_lm"))
    tokenizer.tgt_lang = "fr"
    with pytest.raises(ModelError, match="one language to write in"):
        Translation().fit_tokenizer(tokenizer, dict(SEQ2SEQ))


ENGLISH = (["the cat sat.", "", "a fine day, is it not?"], ["the cat sat on it.", "x", "a day"])
CHINESE = (["我爱北京天安门。", ""], ["我爱天安门", "他不在"])


@pytest.mark.parametrize(("written", "expected"), [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_bleu_and_chrf_are_those_of_sacrebleu(written, expected):
    references = [[text] for text in expected]
    references[0].append(written[0])
    streams = [expected, [written[0], *[None] * (len(written) - 1)]]
    split = splitter(references)
    assert split == ("13a" if expected is ENGLISH[1] else "zh")
    every = np.ones((len(written), 1))
    score, ratio = bleu(written, references, split)
    oracle = BLEU(tokenize=split)
    theirs = oracle.corpus_score(written, streams)
    assert score.value(every)[0] == pytest.approx(theirs.score)
    assert ratio(every)[0] == pytest.approx(theirs.ratio)
    assert score.signature == str(oracle.get_signature())
    assert chrf(written, references).value(every)[0] == pytest.approx(
        CHRF().corpus_score(written, streams).score
    )


def test_rouge_by_the_formula():
    # the words in both: the, cat; the pairs in both: the cat
    assert rouge_n("The cat sat", "the cat is here", 1) == pytest.approx(2 * 2 / 7)
    assert rouge_n("The cat sat", "the cat is here", 2) == pytest.approx(2 * 1 / 5)
    assert rouge_n("the the the", "the cat", 1) == pytest.approx(2 / 5)
    assert rouge_n("我爱北京", "我爱天津", 1) == pytest.approx(4 / 8)
    assert rouge_n("", "a cat", 1) == rouge_n("?!", "a cat", 2) == 0.0
    assert rouge_n("cat", "cat", 2) == 0.0  # no pair on either side


def predictions(*texts):
    return [
        Prediction(i, text, measures={"loss": 1.0, "tokens": 2, "finished": i != 0})
        for i, text in enumerate(texts)
    ]


def test_rows_of_one_source_are_scored_once_with_all_their_targets():
    rows = records(("a", "one two three four"), ("b", ["x y", "v w"]), ("a", "five six seven"))
    made = predictions("five six seven", "v w", "ignored")
    found = Summarization().compare(made, rows, SEQ2SEQ, Resampling(intervals=False))
    assert found.metrics["rouge_l"].value == 1.0
    assert found.metrics["loss"].value == 1.0
    assert found.tables["sources"] == 2
    assert found.tables["unfinished"] == 1
    assert any("3 rows have 2 different sources" in note for note in found.tables["notes"])


def test_signatures_and_the_deciding_score_are_there():
    found = Translation().compare(predictions("good film", "c"), PAIRS, SEQ2SEQ, Resampling())
    assert set(found.tables["signatures"]) == {"bleu", "chrf"}
    for task in (Translation, Summarization, Text2Text):
        assert task.deciding == task.measured[0]
    assert found.metrics["chrf"].low < found.metrics["chrf"].value < found.metrics["chrf"].high
    assert rouge_l("", "") == 1.0


@pytest.mark.parametrize(
    ("decoding", "problem"),
    [
        ({"beams": 2, "temperature": 0.5}, "beams follow"),
        ({"top_k": 5}, "none are made"),
        ({"stop": [""]}, "an empty text"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(decoding, problem):
    with pytest.raises(ConfigErrors, match=problem):
        parse(Translation, {"decoding": decoding}, "task")


def test_beams_only_where_time_is_not_short(tiny):
    _, tokenizer = ENCODER_DECODERS["t5"](HeadSpec("seq2seq_lm"))
    task = parse(Translation, {"decoding": {"beams": 4, "length_penalty": 0.6}}, "task")
    assert task.generation(tokenizer, SEQ2SEQ, "validation").beams == 1
    how = task.generation(tokenizer, SEQ2SEQ, "test")
    assert (how.beams, how.length_penalty) == (4, 0.6)
    assert json.loads(task.model_dump_json())["decoding"]["beams"] == 4


def test_scores_while_training_are_of_greedy_writing():
    task = parse(Translation, {"decoding": {"temperature": 0.7, "top_k": 5}}, "task")
    _, tokenizer = ENCODER_DECODERS["t5"](HeadSpec("seq2seq_lm"))
    found = [task.generation(tokenizer, SEQ2SEQ, p).temperature for p in ("validation", "test")]
    assert found == [0.0, 0.7]


def test_a_source_without_target_that_must_be_cut_leaves_room_to_write():
    _, tokenizer = FAMILIES["llama"](HeadSpec("causal_lm"))
    task = Text2Text(max_new_tokens=20)
    state = task.fit_tokenizer(tokenizer, {"form": "decoder"})
    [example] = task.encode(records(("what is a? " * 30, None)), tokenizer, state, 100)
    assert 70 < len(example.prompt) <= 80
