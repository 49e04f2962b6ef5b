"""Tagging from a user's file to scores: layouts, words and tokens, windows, bad input."""

import json

import pytest
import torch
from tokenizers import pre_tokenizers

from lightune.cli.main import main
from lightune.data.kinds import tags, tokens
from lightune.engine.token_cache import pack, unpack
from lightune.errors import ConfigError, DataError
from lightune.models.heads import auto_class
from lightune.models.tiny import ENCODER_DECODERS, FAMILIES, tiny_tokenizer
from lightune.tasks.tagging import joined, parts_of, tagged, with_parts
from lightune.tasks.token_classification import NOT_LEARNT, TokenClassification
from lightune.tasks.words import read_words
from lightune.types import HeadSpec, Place, Prediction, Record

QUICK = ("train.max_steps=2", "train.precision=fp32", "train.engine.threads=1", "task.overlap=8")
SPANS = [{"start": 0, "end": 12, "label": "PER"}, {"start": 25, "end": 29, "label": "LOC"}]
TEXT = "Ada Lovelace is going to Bern."


def record(line=1, **values):
    readers = {"tokens": tokens, "tags": tags}
    read = {name: readers.get(name, str)(value) for name, value in values.items()}
    return Record({k: v for k, v in read.items() if v is not None}, Place("d.jsonl", line))


def shown(entities):
    return [(part["label"], part["start"], part["end"], part["text"]) for part in entities]


@pytest.mark.parametrize(
    ("values", "text", "entities"),
    [
        (
            {"tokens": ["Ada", "is", "in", "Bern"], "tags": ["B-PER", "O", "O", "S-LOC"]},
            "Ada is in Bern",
            [("PER", 0, 1, "Ada"), ("LOC", 3, 4, "Bern")],
        ),
        ({"text": "Ada is in Bern .", "tags": "B-PER O O S-LOC O"}, None, ["Ada", "Bern"]),
        ({"text": TEXT, "tags": SPANS}, None, ["Ada Lovelace", "Bern"]),
        ({"text": TEXT, "tags": []}, None, []),
        ({"text": "艾达在北京", "tags": ["B-P", "E-P", "O", "B-L", "E-L"]}, None, ["艾达", "北京"]),
        ({"text": "艾达在北京。", "tags": [[3, 5, "L"]]}, None, ["北京"]),
        ({"text": "a1 b", "tags": ["B-X", "I-X", "O"]}, None, ["a1"]),
        (
            {"tokens": [*"艾达在", "Bern"], "tags": ["B-P", "M-P", "O", "U-L"]},
            "艾达在 Bern",
            ["艾达", "Bern"],
        ),
        ({"tokens": ["a", "b"], "text": "x y z", "tags": ["O", "S-Q"]}, "a b", ["b"]),
    ],
)
def test_layouts_of_rows(values, text, entities):
    task = TokenClassification()
    row = record(**values)
    one = tagged(row)
    assert one.text == (text or values["text"])
    state = task.learn([row]) if entities else {"split": "words", "entities": True}
    [found] = task.truth([row], state)
    whole = shown(found)
    assert (whole if entities and isinstance(entities[0], tuple) else [e[3] for e in whole]) == (
        entities
    )
    for part in found if not one.listed else ():
        assert one.text[part["start"] : part["end"]] == part["text"]


def test_words_of_texts_in_several_scripts():
    one = tagged(record(text="It's 3 km_h,北京市 हिन्दी 한국어 e\u0301t\u00e9!"))
    words = [one.text[a:b] for a, b in one.words]
    assert words == [
        *("It", "'", "s", "3", "km_h", ",", "北", "京", "市", "हिन्दी", "한", "국", "어"),
        *("e\u0301té", "!"),
    ]


def test_joined_words_stand_where_it_says():
    words = ["在", "北", "EU", "says", "京", "，", "x"]
    text, places = joined(words)
    assert text == "在北 EU says 京 ， x"
    assert [text[a:b] for a, b in places] == words


@pytest.mark.parametrize(
    ("given", "learnt"),
    [
        ("B-PER", "B-PER"),
        ("M-PER", "I-PER"),
        ("L-A-B", "E-A-B"),
        ("U_LOC", "S-LOC"),
        ("W-LOC", "S-LOC"),
        ("M", "I"),
    ],
)
def test_prefixes_are_those_of_bioes(given, learnt):
    assert with_parts(*parts_of(given)) == learnt


def test_what_training_teaches():
    task = TokenClassification()
    rows = [record(tokens=["a", "b"], tags=["B-X", "O"]), record(text="a b", tags=[[2, 3, "Y 2"]])]
    state = task.learn(rows)
    assert state["labels"] == ["O", "B-X", "I-X", "B-Y 2", "I-Y 2"]
    assert state["entities"]
    assert state["notes"] == []
    bioes = task.learn([record(tokens=["a", "b"], tags=["U-X", "O"])])
    assert bioes["labels"] == ["O", "B-X", "I-X", "E-X", "S-X"]
    speech = task.learn([record(tokens=["a", "b"], tags=["NN", "I"])])
    assert (speech["labels"], speech["entities"]) == (["I", "NN"], False)
    assert "scored alone" in speech["notes"][0]
    segments = task.learn([record(text="北京好", tags=["B", "E", "S"])])
    assert segments["labels"] == ["O", "B", "I", "E", "S"]
    named = TokenClassification(names=["O", "B-X"]).learn([record(tokens=["a"], tags=[1])])
    assert named["labels"] == ["O", "B-X", "I-X"]


@pytest.mark.parametrize(
    ("values", "settings", "said"),
    [
        ({"tokens": ["a", "b"], "tags": ["O"]}, {}, "d.jsonl:7: there are not as many tags"),
        ({"text": "a b", "tags": ["O"] * 4}, {}, "d.jsonl:7: there are not as many tags"),
        ({"tokens": ["a"], "tags": []}, {}, "d.jsonl:7: there are not as many tags"),
        ({"tokens": ["a"], "tags": [[0, 1, "X"]]}, {}, "spans are parts of a text"),
        ({"text": "abc", "tags": [[2, 9, "X"]]}, {}, "does not stand in its text"),
        ({"text": "abc", "tags": [[2, 2, "X"]]}, {}, "does not stand in its text"),
        (
            {"text": "abc", "tags": [{"start": 0, "end": 1, "label": "X", "text": "b"}]},
            {},
            "does not stand in its text",
        ),
        ({"tags": ["O"]}, {}, "neither a text nor a list of words"),
        ({"tokens": ["a"], "tags": [5]}, {"names": ["O", "B-X"]}, "'5' is not among task.names"),
    ],
)
def test_bad_rows_are_named(values, settings, said):
    task = TokenClassification(**settings)
    with pytest.raises(DataError) as error:
        task.check([record(tokens=["a"], tags=["O" if not settings else 1]), record(7, **values)])
    assert said in error.value.problem
    assert error.value.mend


def test_all_bad_rows_are_counted():
    rows = [record(i, tokens=["a"], tags=["O", "O"]) for i in range(1, 4)]
    with pytest.raises(DataError, match="3 of 3 rows are so"):
        TokenClassification().check(rows)


def test_nothing_tagged_and_unknown_tags():
    task, known = TokenClassification(), record(tokens=["a"], tags=["B-PER"])
    with pytest.raises(DataError, match="nothing is tagged"):
        task.learn([record(tokens=["a"], tags=["O"])])
    other = record(9, tokens=["a", "b"], tags=["B-PRE", "B-PRE"])
    with pytest.raises(DataError, match=r"d.jsonl:9.*'B-PRE' is not among"):
        task.encode([known, other], tiny_tokenizer("cls"), task.learn([known]), 32)


def test_numbers_as_tags_need_names():
    rows = [record(tokens=["a", "b", "c"], tags=[0, 1, 0])]
    with pytest.raises(DataError, match="the tags are numbers") as error:
        TokenClassification().learn(rows)
    assert "task.names" in error.value.mend
    assert TokenClassification(names=["O", "PER"]).learn(rows)["labels"] == ["O", "PER"]


def test_words_outside_are_no_entities_where_tags_have_no_prefix():
    task = TokenClassification()
    rows = [record(tokens=["Ada", "is", "in", "Bern"], tags=["PER", "O", "O", "LOC"])]
    state = task.learn(rows)
    [found] = task.truth(rows, state)
    assert shown(found) == [("PER", 0, 1, "Ada"), ("LOC", 3, 4, "Bern")]
    [example] = task.encode(rows, tiny_tokenizer("cls"), state, 64)
    logits = torch.zeros(1, len(example), 3)
    logits[..., state["labels"].index("O")] = 9.0
    [nothing] = task.decode(logits, [example], state)
    assert nothing.value == []
    assert task.score([nothing], rows, state).metrics["f1"].value == 0


def test_spans_that_do_not_fit_are_counted():
    spans = [[0, 2, "X"], [4, 11, "Y"], [8, 11, "X"]]
    row = record(text="Adas Uhr ist hier", tags=spans)
    state = TokenClassification().learn([row])
    assert sorted(note.split()[0] for note in state["notes"]) == ["1", "2"]
    [found] = TokenClassification().truth([row], state)
    assert shown(found) == [("X", 0, 4, "Adas"), ("Y", 5, 12, "Uhr ist")]
    scores = TokenClassification().score([Prediction(0, found)], [row], state)
    assert len([n for n in scores.tables["notes"] if "spans" in n]) == 2


def test_the_words_of_a_span_are_those_it_touches():
    """By the definition, for every span of a text."""
    text = " ab c,d  北京 e "
    places = tagged(record(text=text)).words
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            touched = [a < end and b > start for a, b in places]
            one = tagged(record(text=text, tags=[[start, end, "X"]]))
            assert [tag != "O" for tag in one.tags] == touched
            assert one.overlapping == (not any(touched))


def test_many_spans_of_a_long_text_are_all_found():
    text = "ab " * 20_000
    row = record(text=text, tags=[[30 * n, 30 * n + 2, "X"] for n in range(2000)])
    assert tagged(row).tags.count("B-X") == 2000


@pytest.mark.parametrize("kind", ["cls", "roberta", "decoder", "seq2seq"])
@pytest.mark.parametrize("max_length", [20, 27, 1000])
@pytest.mark.parametrize("overlap", [0, 3, 8])
def test_every_word_belongs_to_one_window(kind, max_length, overlap):
    tokenizer = tiny_tokenizer(kind)
    words = ["the", "unbelievably", "北", "x", ",", "filmfilm"] * 5
    blanks = [n > 0 for n in range(len(words))]
    texts, before = [words, [], ["a"]], [blanks, [], [False]]
    every, none, one = read_words(texts, before, tokenizer, max_length, overlap)
    assert [n for window in every for n in window.words] == list(range(len(words)))
    assert sum(window.lost for window in every) == 0
    natural = tokenizer(" ".join(words))["input_ids"]
    if max_length == 1000:
        assert len(every) == 1
        assert every[0].inputs["input_ids"] == natural
    for window in every:
        ids = window.inputs["input_ids"]
        assert len(ids) <= max_length
        assert all(len(column) == len(ids) for column in window.inputs.values())
        for word, at in zip(window.words, window.at, strict=True):
            first = tokenizer([words[word]], is_split_into_words=True, add_special_tokens=False)
            assert ids[at] == first["input_ids"][0]
    assert [window.words for window in (*none, *one)] == [[], [0]]


def test_words_become_the_tokens_of_the_text_also_without_a_blank_before_each():
    tokenizer = tiny_tokenizer("decoder")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    text = "the film is good, the market is bad"
    one = tagged(record(text=text))
    words = [text[a:b] for a, b in one.words]
    blanks = [a > 0 and text[a - 1] == " " for a, _ in one.words]
    [[window]] = read_words([words], [blanks], tokenizer, 100, 8)
    assert window.inputs["input_ids"] == tokenizer(text)["input_ids"]


def test_a_word_has_as_much_around_it_as_the_overlap_allows():
    words = [f"w{n}" for n in range(10)] * 6
    windows = next(read_words([words], [[True] * 60], tiny_tokenizer("cls"), 34, 16))
    for window in windows[1:-1]:
        ids = window.inputs["input_ids"]
        assert min(window.at[0], len(ids) - window.at[-1]) > 6


def test_what_cannot_be_read_is_counted():
    tokenizer = tiny_tokenizer("cls")
    [[first, *_]] = read_words([["x" * 30, "a"]], [[False, True]], tokenizer, 12, 4)
    assert first.lost == 21  # a blank and thirty letters, of which ten are read
    with pytest.raises(ConfigError, match="leaves no room"):
        list(read_words([["a"]], [[False]], tokenizer, 8, 4))


def test_the_first_token_of_a_word_has_its_tag():
    tokenizer, task = tiny_tokenizer("cls"), TokenClassification()
    row = record(tokens=["unbelievable", "Bern"], tags=["B-X", "B-Y"])
    state = task.learn([row])
    [example] = task.encode([row], tokenizer, state, 64)
    learnt = [label for label in example.target if label != NOT_LEARNT]
    assert [state["labels"][n] for n in learnt] == ["B-X", "B-Y"]
    pieces = tokenizer.convert_ids_to_tokens(example.inputs["input_ids"])
    starts = [i for i, label in enumerate(example.target) if label != NOT_LEARNT]
    assert all(pieces[i].startswith("Ġ") for i in starts)
    assert unpack(pack([example])) == [example]


@pytest.mark.parametrize("max_length", [12, 128])
@pytest.mark.parametrize(
    "values", [{"text": " " + TEXT + " " + TEXT}, {"tokens": TEXT.split() * 3}]
)
def test_what_was_learnt_is_what_is_decoded(values, max_length):
    """Logits that are right give the very entities of the record, whatever the windows."""
    task, tokenizer = TokenClassification(overlap=3), tiny_tokenizer("cls")
    spans = [[1, 13, "PER"], [26, 30, "LOC"], [57, 61, "LOC"]]
    said = spans if "text" in values else ["B-PER", "I-PER", "O", "O", "O", "B-LOC"] * 3
    rows = [record(**values, tags=said), record(text="no name", tags=[], line=2)]
    state = task.learn(rows)
    examples = task.encode(rows, tokenizer, state, max_length)
    width = max(map(len, examples))
    targets = task.targets(examples, state, width)
    logits = 9.0 * torch.nn.functional.one_hot(targets.clamp(min=0), len(state["labels"]))
    made = task.decode(logits, examples, state)
    truth = task.truth(rows, state)
    assert [shown(p.value) for p in made] == [shown(parts) for parts in truth]
    assert truth[1] == []
    share = 9.0 - torch.logsumexp(torch.tensor([9.0] + [0.0] * 4), 0)
    assert made[0].value[0]["score"] == pytest.approx(float(share.exp()))
    assert task.score(made, rows, state).metrics["f1"].value == 1


def test_scores_and_tables():
    task = TokenClassification()
    rows = [record(tokens=["a", "b"], tags=["B-X", "B-Y"]), record(tokens=["c"], tags=["O"])]
    state = task.learn(rows)
    part = {"text": "a", "label": "X", "start": 0, "end": 1, "score": 0.5}
    wrong = {**part, "label": "Y", "end": 2}
    found = task.score([Prediction(0, [part]), Prediction(1, [wrong])], rows, state)
    assert found.metrics["f1"].value == pytest.approx(2 * 1 / (2 + 2))
    assert found.metrics["macro_f1"].value == pytest.approx(0.5)
    assert [row["label"] for row in found.tables["per_class"]] == ["X", "Y"]
    with pytest.raises(DataError, match="tags are missing"):
        task.truth([record(tokens=["a"])], state)


@pytest.mark.parametrize("family", ["bert", "roberta", "deberta", "gpt2", "qwen2", "t5"])
def test_families_give_logits_for_each_token(family):
    task = TokenClassification()
    row = record(tokens=["a", "film"], tags=["B-X", "O"])
    state = task.learn([row])
    build = (FAMILIES | ENCODER_DECODERS)[family]
    model, tokenizer = build(task.head(state))
    [example] = task.encode([row], tokenizer, state, 64)
    ids = torch.tensor([example.inputs["input_ids"]])
    with torch.no_grad():
        outputs = model(input_ids=ids, attention_mask=torch.ones_like(ids))
    assert outputs.logits.shape == (1, len(example), len(state["labels"]))


def test_a_model_without_such_a_head_is_refused():
    from transformers import MarianConfig

    from lightune.errors import ModelError

    with pytest.raises(ModelError, match="has no token classification head"):
        auto_class(MarianConfig(), HeadSpec("token_classification", ("O",)))


CONLL = "".join(f"the O\nfilm{i} B-W\n{w} I-W\n. O\n\n" for i, w in enumerate("abcdefghijkl"))


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_three_commands_from_a_conll_file(tiny, tmp_path, capsys, method):
    file, run = tmp_path / "d.txt", tmp_path / "run"
    file.write_text(CONLL)
    words = ["train", "--task", "token_classification", "--data", str(file), "--method", method]
    more = [word for change in (*QUICK, "train.max_length=32") for word in ("-s", change)]
    model = ["--model", str(tiny("bert")), "--out", str(run), "--json"]
    assert main([*words, *model, *more]) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    assert "12 sentences, parted by empty lines" in captured.err
    assert {"f1", "precision", "recall"} <= json.loads(captured.out)["metrics"].keys()
    assert main(["evaluate", str(run), str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == 12
    new, out = tmp_path / "new.conll", tmp_path / "out.csv"
    new.write_text("the\nfilm1\n\nso\n")
    assert main(["predict", str(run), str(new), "--out", str(out)]) == 0
    assert len(out.read_text().splitlines()) == 3
    capsys.readouterr()
    assert main(["predict", str(run), "--text", "the film1 is good.", "--json"]) == 0
    [row] = json.loads(capsys.readouterr().out)["predictions"]
    assert all("the film1 is good."[p["start"] : p["end"]] == p["text"] for p in row["prediction"])
    assert main(["predict", str(run), str(new)]) == 0
    assert "film1" in capsys.readouterr().out
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("id,note\n1,a\n2,b\n")
    assert main(["predict", str(run), str(wrong)]) == 2
    assert "recognised as `text`" in capsys.readouterr().err
    assert "pipeline_tag: token-classification" in (run / "README.md").read_text()


def test_the_preview_shows_first_tokens_as_learnt(tiny, tmp_path, capsys):
    file, recipe = tmp_path / "d.jsonl", tmp_path / "r.yaml"
    rows = [{"text": f"film {i} is good", "spans": [[0, 6, "W"]]} for i in range(10)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe.write_text(f"task: token_classification\nmodel: {tiny('bert')}\ndata: {file}\n")
    assert main(["data", "preview", str(recipe), "--rows", "1", "--json"]) == 0
    [view] = json.loads(capsys.readouterr().out)["rows"]
    assert sum(view["learnt"]) == 4
