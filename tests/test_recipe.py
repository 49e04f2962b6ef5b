"""Recipes: read strictly, checked whole, written back so that they load equal."""

import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lightune import strict_yaml
from lightune.data.spec import DataSpec
from lightune.errors import ConfigError, ConfigErrors, LightuneError
from lightune.methods.base import methods
from lightune.recipe import dump, load_recipe
from lightune.settings import Settings, keys, parse
from lightune.tasks.base import tasks
from lightune.template import help_table, template
from lightune.train.spec import EvaluationSpec, OptimizerSpec, TrainSpec

LEAST = {"task": "classification", "data": "reviews.csv"}
DESIGN = """\
task: classification              # or {name: classification, text: [title, body], label: topic}
model: minilm                     # catalogue name, hub id, ms:<ModelScope id>, or folder
method: {name: lora, rank: 8, alpha: 16, targets: all-linear}
data: {train: reviews.csv, test: 0.2}         # files, folders, globs, or hub data sets
train: {epochs: 3, batch_size: 16, learning_rate: 5e-4, max_length: 128, precision: auto, seed: 0}
"""


def mistakes(source, overrides=()):
    with pytest.raises(ConfigErrors) as caught:
        load_recipe(source, overrides)
    return caught.value.mistakes


class TestForms:
    def test_the_design_pages_recipe(self, tmp_path):
        path = tmp_path / "recipe.yaml"
        path.write_text(DESIGN)
        recipe = load_recipe(path)
        assert recipe.train.learning_rate == 5e-4
        assert (recipe.train.epochs, recipe.train.max_length) == (3, 128)
        assert recipe.method.name == "lora"
        assert recipe.method.rank == 8
        assert recipe.data == DataSpec(train="reviews.csv", test=0.2)

    def test_the_rest_has_defaults(self):
        recipe = load_recipe(LEAST)
        assert (recipe.model, recipe.method.name, recipe.train) == ("minilm", "lora", TrainSpec())

    @pytest.mark.parametrize(
        ("records", "epochs"),
        [
            (64, 15),
            (800, 8),
            (2000, 4),
            (4_459, 4),
            (33_000, 4),
            (67_349, 3),
            (100_000, 2),
            (10**6, 1),
        ],
    )
    def test_the_passes_follow_from_the_number_of_records(self, records, epochs):
        assert load_recipe(LEAST).train.with_horizon(records).epochs == epochs
        given = load_recipe(LEAST, ["train.max_steps=5"]).train
        assert given.with_horizon(records) == given

    @pytest.mark.parametrize(
        "same",
        [
            {"task": {"name": "classification"}, "data": {"train": "reviews.csv"}},
            LEAST | {"method": "lora"},
            LEAST | {"method": {}, "model": None, "train": None},
            LEAST | {"method": {"name": "lora"}, "train": {"optimizer": None}},
            LEAST | {"data": {"train": Path("reviews.csv")}},
            LEAST | {"train": TrainSpec(), "data": DataSpec(train="reviews.csv")},
            load_recipe(LEAST),
        ],
    )
    def test_short_and_long_forms_are_one(self, same):
        assert load_recipe(same) == load_recipe(LEAST)

    def test_a_method_object(self):
        method = methods()["lora"](rank=3)
        assert load_recipe(LEAST | {"method": method}).method == method

    @pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
    @pytest.mark.parametrize("ends", ["\n", "\r\n"])
    def test_windows_files(self, tmp_path, bom, ends):
        path = tmp_path / "r.yaml"
        path.write_bytes(bom + DESIGN.replace("\n", ends).encode())
        assert load_recipe(path) == load_recipe(strict_yaml.read(DESIGN, ""))

    def test_utf16(self, tmp_path):
        path = tmp_path / "r.yaml"
        path.write_text("task: {name: classification, text: 评论}\ndata: x.csv", encoding="utf-16")
        assert load_recipe(path).task.text == "评论"

    def test_the_source_is_not_changed(self):
        source = {"task": {"name": "classification"}, "data": {"train": "x"}, "train": {"seed": 1}}
        load_recipe(source, ["train.seed=2", "data.test=0.5", "task.text=a"])
        assert source == {
            "task": {"name": "classification"},
            "data": {"train": "x"},
            "train": {"seed": 1},
        }

    def test_records_from_python_are_kept_as_they_are(self):
        records = [{"text": "a", "label": "b"}]
        recipe = load_recipe(LEAST | {"data": records})
        assert recipe.data.train == records
        assert load_recipe(recipe, {"train.seed": 1}).data.train == records
        assert "text" not in yaml.safe_load(dump(recipe))["data"]["train"]


class TestOverrides:
    @pytest.mark.parametrize(
        ("override", "read", "value"),
        [
            ("method.rank=16", lambda r: r.method.rank, 16),
            ("method.targets=[query, value]", lambda r: r.method.targets, ["query", "value"]),
            ("train.learning_rate=2e-5", lambda r: r.train.learning_rate, 2e-5),
            ("train.optimizer.warmup=500", lambda r: r.train.optimizer.warmup, 500),
            ("train.optimizer.warmup=0.1", lambda r: r.train.optimizer.warmup, 0.1),
            ("train.from=runs/a", lambda r: r.train.from_run, "runs/a"),
            ("train.max_steps=5", lambda r: r.train.max_steps, 5),
            ("data=other.csv", lambda r: r.data.train, "other.csv"),
            ("data.train=a=b.csv", lambda r: r.data.train, "a=b.csv"),
            ("data.test=1e-1", lambda r: r.data.test, 0.1),
            ("task.text=no", lambda r: r.task.text, "no"),
            ("model=org/name", lambda r: r.model, "org/name"),
            ("method=full", lambda r: r.method.name, "full"),
            ("method.name=full", lambda r: r.method.name, "full"),
        ],
    )
    def test_change_one_value(self, override, read, value):
        key, _, text = override.partition("=")
        assert read(load_recipe(LEAST, [override])) == value
        assert read(load_recipe(LEAST, {key: strict_yaml.read(text, "")})) == value
        assert read(load_recipe(load_recipe(LEAST), [override])) == value

    @pytest.mark.parametrize("name", ["method=full", "method.name=full"])
    def test_another_method_drops_the_settings_of_the_old_one(self, name):
        source = LEAST | {"method": {"name": "lora", "rank": 4}}
        assert load_recipe(source, [name]).method.name == "full"
        assert load_recipe(source, [name.replace("full", "lora")]).method.rank == 4
        found = mistakes(source, ["method.rank=4", name])
        assert [m.problem for m in found] == ["method.rank: unknown key"]

    def test_max_steps_alone_is_the_horizon(self):
        train = load_recipe(LEAST, ["train.max_steps=5"]).train
        assert (train.epochs, train.max_steps) == (None, 5)
        both = load_recipe(LEAST | {"train": {"epochs": 2}}, ["train.max_steps=5"]).train
        assert (both.epochs, both.max_steps) == (2, 5)


class TestMistakes:
    @pytest.mark.parametrize(
        ("change", "problem", "mend"),
        [
            ({"task": None}, "task: no task is named", "task: classification"),
            ({"task": {"text": "x"}}, "task: no task is named", "task: classification"),
            ({"task": "clasification"}, "task: there is no task", "classification"),
            ({"task": ["a"]}, "task: no task is named", "task: classification"),
            ({"method": "lorra"}, "method: there is no method", "`lora`"),
            ({"method": {"rnk": 8}}, "method.rnk: unknown key", "`rank`"),
            ({"method": {"rank": 0}}, "method.rank: must be at least 1", "Inner size"),
            ({"method": {"rank": True}}, "method.rank: must be a number", "Inner size"),
            ({"model": 3}, "model: the name of a model", "minilm"),
            ({"model": ""}, "model: the name of a model", "minilm"),
            ({"data": None}, "data.train: no training data", "data: reviews.csv"),
            ({"data": {"test": 0.2}}, "data.train: no training data", "data: reviews.csv"),
            ({"data": {"trian": "x"}}, "data.trian: unknown key", "`train`"),
            ({"train": 3}, "train: a mapping is expected", "epochs"),
            ({"train": {"learning_rat": 1}}, "train.learning_rat: unknown key", "`learning_rate`"),
            ({"train": {"optimizer": {"warmp": 1}}}, "train.optimizer.warmp: unknown", "`warmup`"),
            ({"train": {"optimizer": 3}}, "train.optimizer: must be", "AdamW"),
            (
                {"train": {"optimizer": {"warmup": 1.5}}},
                "train.optimizer.warmup: must be a whole number, or less than 1",
                "Rise",
            ),
            (
                {"train": {"evaluation": {"every": "x"}}},
                "train.evaluation.every: must be 'epoch', or a whole",
                "epoch",
            ),
            (
                {"train": {"evaluation": {"every": None, "early_stopping": 2}}},
                "train.evaluation: early_stopping without",
                "every: epoch",
            ),
            ({"trian": {}}, "trian: unknown key", "`train`"),
            ({"epochs": 3}, "epochs: unknown key", "`train: {epochs: …}`"),
            ({"encoding": "x"}, "encoding: unknown key", "`data: {encoding: …}`"),
            ({"zzz": 3}, "zzz: unknown key", "task, model, method, data, train"),
        ],
    )
    def test_each_names_the_key_and_the_mend(self, change, problem, mend):
        (only,) = mistakes(LEAST | change)
        assert only.problem.startswith(problem)
        assert mend in only.mend

    def test_all_of_all_sections_come_at_once_in_order(self):
        source = {
            "task": {"name": "classification", "txt": 1},
            "method": {"rank": 0, "alpha": -1},
            "data": {"train": "x", "encoding": "utf-88"},
            "train": {"seed": "x", "epochs": -1},
            "foo": 1,
        }
        found = mistakes(source, ["method.rank", "train.batch_size=0", "model.x=1", "data.test=["])
        places = [m.problem.replace(": ", " ").split(" ")[0] for m in found]
        assert places == [
            *("-s", "-s", "-s", "foo", "task.txt", "method.rank", "method.alpha"),
            *("data.encoding", "train.epochs", "train.batch_size", "train.seed"),
        ]

    @pytest.mark.parametrize("empty", ["", "# nothing\n", "null"])
    def test_an_empty_file(self, tmp_path, empty):
        path = tmp_path / "r.yaml"
        path.write_text(empty)
        with pytest.raises(ConfigError, match="empty recipe") as caught:
            load_recipe(path)
        assert "lightune init" in caught.value.mend

    @pytest.mark.parametrize("text", ["- a\n- b", "word", "3"])
    def test_a_file_of_another_form(self, tmp_path, text):
        path = tmp_path / "r.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match="mapping"):
            load_recipe(path)

    def test_a_missing_file_offers_near_names(self, tmp_path):
        (tmp_path / "recipe.yaml").write_text("")
        with pytest.raises(ConfigError, match="no recipe") as caught:
            load_recipe(tmp_path / "recipe.yml")
        assert str(tmp_path / "recipe.yaml") in caught.value.mend
        with pytest.raises(ConfigError) as caught:
            load_recipe(tmp_path / "nowhere" / "recipe.yml")
        assert "lightune init" in caught.value.mend

    def test_a_folder(self, tmp_path):
        with pytest.raises(ConfigError, match="is a folder"):
            load_recipe(tmp_path)
        (tmp_path / "recipe.yaml").write_text("")
        with pytest.raises(ConfigError) as caught:
            load_recipe(tmp_path)
        assert "recipe.yaml" in caught.value.mend

    def test_a_file_that_is_no_text(self, tmp_path):
        path = tmp_path / "r.yaml"
        path.write_bytes(b"task: x\n\xff\xd8\x00\x01")
        with pytest.raises(ConfigError, match=r"r\.yaml:2: not UTF-8 text"):
            load_recipe(path)


class TestPaths:
    def test_the_current_directory_first_then_the_recipes_folder(self, tmp_path, monkeypatch):
        here, there = tmp_path / "here", tmp_path / "there"
        for folder, names in ((here, ["both.csv"]), (there, ["both.csv", "only.csv", "x1.csv"])):
            folder.mkdir()
            for name in names:
                (folder / name).write_text("")
        monkeypatch.chdir(here)
        (there / "r.yaml").write_text(
            "task: classification\n"
            "data: {train: [both.csv, only.csv], test: 'x*.csv', validation: neither.csv}\n"
            "train: {from: only.csv}"
        )
        recipe = load_recipe("../there/r.yaml")
        assert recipe.data.train == ["both.csv", "../there/only.csv"]
        assert recipe.data.test == "../there/x*.csv"
        assert recipe.data.validation == "neither.csv"
        assert recipe.train.from_run == "../there/only.csv"
        assert [note.partition(":")[0] for note in recipe.notes] == [
            *("data.train", "data.test", "train.from")
        ]

    @pytest.mark.parametrize("name", ["/abs/x.csv", "hf:org/name", "a\0b", "x" * 5000, "[", ""])
    def test_other_names_stay(self, tmp_path, name):
        from lightune.recipe import _beside

        notes = []
        assert _beside(tmp_path, name, "data.train", notes) == name
        assert not notes


class TestDump:
    @pytest.mark.parametrize("method", sorted(methods()))
    @pytest.mark.parametrize("task", sorted(tasks()))
    def test_loads_back_equal_with_every_default_written_out(self, task, method):
        source = {
            "task": task,
            "method": method,
            "data": ["a.csv", "no"],
            "train": {"from": "5e-4"},
        }
        recipe = load_recipe(source)
        values = yaml.safe_load(dump(recipe))  # any reader of YAML agrees
        assert load_recipe(values) == load_recipe(strict_yaml.read(dump(recipe), "")) == recipe
        assert list(values) == ["task", "model", "method", "data", "train"]
        for section, spec in (
            *(("task", tasks()[task]), ("method", methods()[method])),
            *(("data", DataSpec), ("train", TrainSpec)),
        ):
            assert set(values[section]) - {"name"} == set(keys(spec))
        assert set(values["train"]["optimizer"]) == set(keys(OptimizerSpec))

    def test_a_recipe_is_immutable_and_notes_do_not_count(self):
        recipe = load_recipe(LEAST)
        with pytest.raises(AttributeError):
            recipe.model = "other"
        assert recipe == replace(recipe, notes=("a note",))


def uncommented(text):
    """Take the # off every `#key: value` line."""
    return re.sub(r"^( *)#(?=[a-z_]+:)", r"\1", text, flags=re.MULTILINE)


class TestTemplate:
    @pytest.mark.parametrize("method", sorted(methods()))
    @pytest.mark.parametrize("task", sorted(tasks()))
    def test_loads_as_it_is_and_uncommented(self, task, method):
        text = template(task, method)
        recipe = load_recipe(strict_yaml.read(text, ""))
        assert (recipe.task.name, recipe.method.name) == (task, method)
        whole = strict_yaml.read(uncommented(text), "")
        assert load_recipe(whole) == recipe
        assert set(whole["train"]) == set(keys(TrainSpec))
        assert set(whole["method"]) == {"name", *keys(methods()[method])}

    def test_holds_every_help_text(self):
        text = " ".join(re.sub(r"^ *# ", "", template(), flags=re.MULTILINE).split())
        for spec in (tasks()["classification"], methods()["lora"], DataSpec, TrainSpec):
            for row in help_table(spec):
                assert row.help
                assert row.help in text

    def test_lines_are_short(self):
        assert max(map(len, template().splitlines())) <= 100


def test_help_table_has_defaults_as_a_recipe_has_them():
    class Toy(Settings):
        must: int
        """A number
        that must be given."""
        words: tuple[str, ...] = ("a", "b")
        """Words."""
        inner: EvaluationSpec = EvaluationSpec()
        """Nested."""

    rows = {row.key: (row.default, row.help) for row in help_table(Toy)}
    assert rows["must"] == ("required", "A number that must be given.")
    assert rows["words"] == ("[a, b]", "Words.")
    assert rows["inner.best"][0] == "true"
    assert "inner" not in rows


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab:-[]{}#&*!|>'\"%@`,? \n\t01e.\\\u2028é", max_size=60))
def test_any_text_gives_a_value_or_our_error(text):
    with suppress(LightuneError):
        load_recipe(strict_yaml.read(text, "r.yaml"))


def test_union_mistakes_are_one_mistake_per_key():
    with pytest.raises(ConfigErrors) as caught:
        parse(EvaluationSpec, {"every": -1, "best": 2}, "train.evaluation")
    assert len(caught.value.mistakes) == 2


def test_reading_this_module_needs_no_torch():
    code = (
        "import sys, lightune.recipe, lightune.template, lightune.train.spec\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_one_mistake_reads_as_itself():
    with pytest.raises(ConfigErrors) as caught:
        load_recipe({"task": "classification", "data": "x.csv", "train": {"epochs": -1}})
    (mistake,) = caught.value.mistakes
    error = caught.value
    assert (error.problem, error.found, error.mend) == tuple(mistake.args)
    assert str(error) == str(mistake)
