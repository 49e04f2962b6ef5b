"""The table of mistakes that `test_bad_input.py` makes, one row each.

In the command lines `{home}` is a folder with `tiny/` (a model), `good.csv`, `good.yaml`, `run/`
(trained on both) and `folder/` (with no data in it); `{out}` is a folder that does not exist.
"""

from dataclasses import dataclass

GOOD = "text,label\n" + "".join(f"a {w} film {i},{w}\n" for i in range(10) for w in ("good", "bad"))
QUICK = {"precision": "fp32", "epochs": 1, "engine": {"threads": 1}}


@dataclass(frozen=True)
class Case:
    """One mistake.

    Attributes:
        name: of the test.
        argv: the command; `{…}` are replaced, see `test_is_told_what_to_do`.
        words: all must be in the message, and `mend` of them behind `mend:`.
        data: content of `{data}`, where the mistake is in the data.
        recipe: sections of `{recipe}` that differ from one that works.
    """

    name: str
    argv: str
    words: tuple[str, ...]
    mend: tuple[str, ...] = ()
    data: str | bytes | None = None
    recipe: dict | None = None


TRAIN = "train --task classification --model {home}/tiny --data {data} --out {out}"
RECIPE = "train {recipe} --out {out}"

CASES = [
    Case(
        "missing file",
        TRAIN.format_map({"home": "{home}", "data": "{home}/god.csv", "out": "{out}"}),
        ("god.csv", "no such file"),
        ("good.csv",),
    ),
    Case("missing recipe", "train {home}/god.yaml --out {out}", ("god.yaml",), ("good.yaml",)),
    Case("recipe is a folder", "train {home}/folder --out {out}", ("folder",)),
    Case(
        "recipe is no YAML",
        RECIPE,
        ("recipe.yaml:2",),
        recipe={"raw": "task: classification\n  x: [\n"},
    ),
    Case(
        "folder without data",
        "train --task classification --model {home}/tiny --data {home}/folder --out {out}",
        ("folder without data files", "notes.txt"),
        (".csv",),
    ),
    Case("empty file", TRAIN, ("empty",), data=""),
    Case("header and nothing else", TRAIN, ("data.csv",), data="text,label\n"),
    Case(
        "tested rows are trained on",
        f"{TRAIN} --test {{data}}",
        ("data.csv:2: 20 rows of test would be trained on too", "data.csv:2 = "),
        ("data.overlap=drop", "data.overlap=allow"),
        data=GOOD,
    ),
    Case(
        "one label only",
        TRAIN,
        ("two different labels", "'spam'"),
        ("task.label",),
        data="text,label\n" + "".join(f"a {i},spam\n" for i in range(9)),
    ),
    Case("label column absent", TRAIN + " --label labl", ("labl",), ("`label: label`",), data=GOOD),
    Case("text column absent", TRAIN + " --text txt", ("txt",), ("`text: text`",), data=GOOD),
    Case(
        "no column that looks like a text",
        TRAIN,
        ("`text`", "number, label"),
        ("text:",),
        data="number,label\n" + "".join(f"{i},{'ab'[i % 2]}\n" for i in range(20)),
    ),
    Case("a class with one row", TRAIN, ("'rare'",), (), data=GOOD + "just one,rare\n"),
    Case(
        "texts all empty",
        TRAIN,
        ("every text is empty",),
        ("text:",),
        data="text,label\n" + " ,a\n,b\n" * 5,
    ),
    Case(
        "labels all empty",
        TRAIN,
        ("no row has a label",),
        ("label:",),
        data="text,label\n" + "some,\n" * 5,
    ),
    Case(
        "binary file as CSV", TRAIN, ("data.csv",), (), data=b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" * 40
    ),
    Case(
        "other encoding",
        TRAIN,
        ("utf-8", "data.csv:2"),
        ("encoding: gb18030",),
        data=("text,label\n" + "这部电影很好看,好\n剧情拖沓,坏\n" * 9).encode("gb18030"),
    ),
    Case("ragged rows", TRAIN, ("data.csv:3", "3", "2"), (), data="text,label\na,b\na,b,c\nd,e\n"),
    Case(
        "broken JSON line",
        TRAIN.replace("{data}", "{jsonl}"),
        ("data.jsonl:2",),
        (),
        data='{"text": "a", "label": "b"}\n{"text": \n',
    ),
    Case(
        "labels that are sentences",
        TRAIN,
        ("looks like text",),
        ("task.label",),
        data="text,label\n" + "".join(f"a {i},sentence number {i} of many\n" for i in range(40)),
    ),
    Case(
        "labels that are ids",
        TRAIN,
        ("one row", "as rare"),
        ("task.label=COLUMN",),
        data="text,label\n" + "".join(f"a {i},id{i}\n" for i in range(40)),
    ),
    Case(
        "unknown recipe key",
        RECIPE,
        ("train.learning_rat", "unknown key"),
        ("`learning_rate`",),
        recipe={"train": {**QUICK, "learning_rat": 1e-3}},
    ),
    Case(
        "unknown section",
        RECIPE,
        ("modle",),
        ("`model`",),
        recipe={"modle": "minilm"},
    ),
    Case(
        "all mistakes at once",
        RECIPE,
        ("train.epochs", "method.rnk", "data.trian", "task.lable"),
        ("`rank`", "`train`", "`label`"),
        recipe={
            "task": {"name": "classification", "lable": "x"},
            "method": {"name": "lora", "rnk": 1},
            "data": {"trian": "x.csv"},
            "train": {"epochs": -1},
        },
    ),
    Case(
        "unknown override",
        "train {recipe} --out {out} -s method.rnk=3",
        ("method.rnk",),
        ("`rank`",),
        recipe={},
    ),
    Case(
        "override without a value",
        "train {recipe} --out {out} -s method.rank",
        ("method.rank",),
        ("-s method.rank=16",),
        recipe={},
    ),
    Case(
        "unknown task",
        RECIPE,
        ("'clasification'",),
        ("`classification`",),
        recipe={"task": "clasification"},
    ),
    Case("unknown method", RECIPE, ("'lroa'",), ("`lora`",), recipe={"method": "lroa"}),
    Case(
        "unknown model",
        RECIPE,
        ("'minilmm'", "offline"),
        ("`minilm`",),
        recipe={"model": "minilmm"},
    ),
    Case(
        "model folder without a model",
        "train {recipe} --model {home}/folder --out {out}",
        ("config.json",),
        recipe={},
    ),
    Case(
        "targets that match nothing",
        RECIPE,
        ("'q_porj'", "query", "value"),
        ("all-linear",),
        recipe={"method": {"name": "lora", "targets": ["q_porj"]}},
    ),
    Case(
        "one target of two matches nothing",
        RECIPE,
        ("'vlaue'",),
        ("value",),
        recipe={"method": {"name": "lora", "targets": ["query", "vlaue"]}},
    ),
    Case(
        "max_length beyond the model's",
        RECIPE,
        ("train.max_length", "at most"),
        ("max_length:",),
        recipe={"train": {**QUICK, "max_length": 100000}},
    ),
    Case(
        "max_length that leaves no text",
        RECIPE,
        ("max_length",),
        ("max_length",),
        recipe={"train": {**QUICK, "max_length": 2}},
    ),
    Case(
        "rank 0",
        RECIPE,
        ("method.rank", "0"),
        ("Default: 8",),
        recipe={"method": {"name": "lora", "rank": 0}},
    ),
    Case(
        "a number in words",
        RECIPE,
        ("train.epochs", "'three'"),
        (),
        recipe={"train": {**QUICK, "epochs": "three"}},
    ),
    Case(
        "nothing to train on",
        RECIPE,
        ("data.train",),
        ("data:",),
        recipe={"data": {}},
    ),
    Case(
        "start from a run that is none",
        RECIPE,
        ("folder",),
        (),
        recipe={"train": {**QUICK, "from": "folder"}},
    ),
    Case(
        "out folder exists",
        "train {recipe} --out {home}/run",
        ("run", "exists"),
        ("run-2",),
        recipe={},
    ),
    Case(
        "out folder is a file",
        "train {recipe} --out {home}/good.csv",
        ("good.csv", "exists"),
        (),
        recipe={},
    ),
    Case(
        "out below a file",
        "train {recipe} --out {home}/good.csv/run",
        ("good.csv",),
        (),
        recipe={},
    ),
    Case(
        "prediction file lacks the text column",
        "predict {home}/run {data}",
        ("`text`", "id, number"),
        ("--column text=COLUMN",),
        data="id,number\n1,2\n",
    ),
    Case(
        "evaluation file lacks the label column",
        "evaluate {home}/run {data}",
        ("`label`", "text, other"),
        ("--column label=COLUMN",),
        data="text,other\nsome words,1.5\n",
    ),
    Case(
        "label that training did not know",
        "evaluate {home}/run {data}",
        ("data.csv:2", "'goood'"),
        ("'good'",),
        data="text,label\nx,goood\n",
    ),
    Case(
        "run folder that is none", "predict {home}/folder --text x", ("folder", "recipe.yaml"), ()
    ),
    Case("run folder that is missing", "predict {home}/rnu --text x", ("rnu",), ("run",)),
    Case("data file not a run", "predict {home}/good.csv --text x", ("good.csv",)),
]
