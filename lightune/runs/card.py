"""The model card: README.md of a run, made from the run's own files and nothing else.

Why:        a card written by hand, or from memory of what a trainer did, drifts; this one can only
            say what the files say, and says nothing where a file has nothing.
Form:       Hugging Face's: YAML front matter, then Markdown, so that a run folder can be uploaded.
Invariants: no folder of this machine is named; text from data and recipe cannot break the page.
Not here:   the figures (`evaluate/`), the pictures (`evaluate/plots.py`).
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from lightune import strict_yaml
from lightune.runs.folder import RunFolder
from lightune.runs.warned import read_warnings

PIPELINE_TAGS = {
    "classification": "text-classification",
    "regression": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
    "instruct": "text-generation",
    "code_generation": "text-generation",
}
"""Task -> the hub's word for it."""

AUTO_CLASSES = {
    "sequence_classification": "AutoModelForSequenceClassification",
    "regression": "AutoModelForSequenceClassification",
    "token_classification": "AutoModelForTokenClassification",
    "question_answering": "AutoModelForQuestionAnswering",
}
"""Output layer -> the class of Transformers that has it."""

HUB_METRICS = {"macro_f1": "f1", "weighted_f1": "f1", "matthews": "matthews_correlation"}
"""Our names of metrics -> the hub's, where they differ."""

FEW_RECORDS = 200
"""Test sets below this are named as a limit."""

LABELS_SHOWN = 20


def write_card(run: RunFolder) -> None:
    """Write README.md from recipe.yaml, eval.json, data_report.json, environment.json and
    adapter/lightune.json.

    Raises:
        RunError: one of them is missing or damaged.
        ResourceError: the disk is full.
    """
    run.write(run.card, _Card(run).text())


class _Card:
    """What the files say, read once."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.recipe = run.read(run.recipe)
        self.eval = run.read(run.eval)
        self.report = run.read(run.data_report)
        self.environment = run.read(run.environment)
        self.manifest = run.read(run.manifest)
        self.task = str(_part(self.recipe, "task").get("name", ""))
        self.method = str(_part(self.recipe, "method").get("name", ""))
        self.model = _without_folder(str(self.recipe.get("model", "")))
        self.metrics = _part(self.eval, "metrics")
        self.splits = _part(self.report, "splits")
        self.base = _part(self.environment, "base")
        self.hub_id = self._hub_id()
        self.is_peft = (run.adapter / "adapter_config.json").is_file()
        self.is_whole = (run.adapter / "config.json").is_file()

    def text(self) -> str:
        sections = (
            self._about(),
            self._scores(),
            self._data(),
            self._use(),
            self._training(),
            self._limits(),
        )
        blocks = ["\n".join(lines) for section in sections if (lines := list(section))]
        return f"---\n{strict_yaml.write(self._front_matter())}---\n\n" + "\n\n".join(blocks) + "\n"

    def _front_matter(self) -> dict[str, Any]:
        library = "peft" if self.is_peft else "transformers" if self.is_whole else "lightune"
        metrics = dict.fromkeys(HUB_METRICS.get(name, name) for name in self.metrics)
        values = {
            "base_model": self.hub_id,
            "library_name": library,
            "license": str(self.base.get("licence") or "").lower(),  # as in the hub's list
            "pipeline_tag": PIPELINE_TAGS.get(self.task),
            "tags": [word for word in ("lightune", self.method, self.task) if word],
            "metrics": list(metrics),
        }
        return {key: value for key, value in values.items() if value}

    def _about(self) -> Iterator[str]:
        yield f"# {_cell(self.model)} tuned for {self.task} with {self.method}"
        yield ""
        version = self.environment.get("lightune", "")
        rows = _part(self.splits, "train").get("rows")
        records = f" on {rows:,} records" if isinstance(rows, int) else ""
        yield f"Made with Lightune {version}{records}."
        if self.metrics:
            name = next(iter(self.metrics))
            score = _part(self.metrics, name)
            yield f"{_words(name)} on {self._tested()}: **{_score(score)}**{self._beside(name)}."

    def _tested(self) -> str:
        count = self.eval.get("records")
        return f"{count:,} test records" if isinstance(count, int) else "the test records"

    def _beside(self, metric: str) -> str:
        for name, values in _part(self.eval, "baselines").items():
            if isinstance(values, Mapping) and isinstance(values.get(metric), int | float):
                return f"; {_words(name).lower()} alone reaches {values[metric]:.4f}"
        return ""

    def _scores(self) -> Iterator[str]:
        if not self.metrics:
            return
        baselines = _part(self.eval, "baselines")
        yield "## Scores"
        yield ""
        yield f"On {self._tested()}, with 95 % intervals over the choice of these records."
        yield ""
        yield from _row("metric", "score", "95 % interval", *(_words(b).lower() for b in baselines))
        yield from _row("---", "---", "---", *("---" for _ in baselines))
        for name in self.metrics:
            score = _part(self.metrics, name)
            beside = (_number(_part(baselines, b).get(name)) for b in baselines)
            yield from _row(_words(name), _number(score.get("value")), _interval(score), *beside)
        pictures = {self.run.confusion_plot: "Confusion matrix", self.run.loss_plot: "Loss"}
        for path, words in pictures.items():
            if path.is_file():
                yield ""
                yield f"![{words}]({path.name})"

    def _data(self) -> Iterator[str]:
        if not self.splits:
            return
        yield "## Data"
        yield ""
        yield from _row("split", "records", "labels")
        yield from _row("---", "---", "---")
        for name in self.splits:
            split = _part(self.splits, name)
            labels = list(_part(split, "labels").items())
            shown = [f"{_cell(label)} {count:,}" for label, count in labels[:LABELS_SHOWN]]
            more = f" and {len(labels) - len(shown)} more" if len(labels) > len(shown) else ""
            yield from _row(name, f"{split.get('rows', 0):,}", ", ".join(shown) + more)
        source = _part(self.recipe, "data").get("train")
        names = source if isinstance(source, list) else [source] if source else []
        yield ""
        files = ", ".join(_cell(_without_folder(str(name))) for name in names[:8])
        yield f"Read from {files}. What the checks found: [data_report.json](data_report.json)."

    def _use(self) -> Iterator[str]:
        yield "## Use"
        yield ""
        yield "`RUN` stands for the folder that holds this file."
        yield ""
        yield from _code("sh", "lightune predict RUN new.csv")
        yield ""
        yield from _code(
            "python",
            "from lightune import Run",
            "",
            'run = Run.open("RUN")',
            f"print(run.predict([{self._text()}]))",
        )
        head = _part(self.manifest, "head")
        labels, base = head.get("labels") or [], self.hub_id or "BASE"
        model = AUTO_CLASSES.get(str(head.get("kind")), "AutoModelForSequenceClassification")
        auto = f"from transformers import {model}, AutoTokenizer"
        if self.is_peft and labels:
            yield ""
            yield "With PEFT, labels in the order of `adapter/lightune.json`:"
            yield ""
            yield from _code(
                "python",
                "from peft import PeftModel",
                auto,
                "",
                f"base = {model}.from_pretrained(",
                f'    "{base}", num_labels={len(labels)}',
                ")",
                'model = PeftModel.from_pretrained(base, "RUN/adapter").eval()',
                f'tokenizer = AutoTokenizer.from_pretrained("{base}")',
            )
        elif self.is_whole and labels:
            yield ""
            yield "With Transformers alone:"
            yield ""
            yield from _code(
                "python",
                auto,
                "",
                f'model = {model}.from_pretrained("RUN/adapter").eval()',
                'tokenizer = AutoTokenizer.from_pretrained("RUN/adapter")',
            )

    def _text(self) -> str:
        """Return something that this run predicts on, as Python writes it."""
        if self.task == "question_answering":
            return '("a question", "a text that has the answer")'
        if _part(self.manifest, "state").get("pair"):
            return '("a text", "the other text")'
        return '"a text"'

    def _training(self) -> Iterator[str]:
        train, packages = _part(self.recipe, "train"), _part(self.environment, "packages")
        settings = ", ".join(
            f"{key} {_setting(value)}"
            for key, value in _part(self.recipe, "method").items()
            if key != "name" and value is not None
        )
        length = self.manifest.get("max_length") or train.get("max_length")
        rows = {
            "base model": f"{_cell(self.model)}" + (f" ({self.hub_id})" if self.hub_id else ""),
            "method": f"{self.method}: {settings}" if settings else self.method,
            "trained weights": self._trained(),
            "epochs": train.get("epochs"),
            "steps at most": train.get("max_steps"),
            "batch size": train.get("batch_size"),
            "learning rate": self._fact("learning_rate")
            or train.get("learning_rate")
            or f"that of {self.method}",
            "longest input": f"{length} tokens" if length else None,
            "seed": train.get("seed"),
            "seconds": _number(self._fact("seconds"), 0),
            "software": ", ".join(
                f"{name} {packages[name]}" for name in ("torch", "transformers") if name in packages
            ),
            "machine": ", ".join(self._machine()),
        }
        yield "## Training"
        yield ""
        yield from _row("", "")
        yield from _row("---", "---")
        for name, value in rows.items():
            if value is not None and value != "":
                yield from _row(name, _cell(value))
        yield ""
        yield "[recipe.yaml](recipe.yaml) repeats it: `lightune train recipe.yaml`. Versions,"
        yield "seeds and hashes are in [environment.json](environment.json)."

    def _limits(self) -> Iterator[str]:
        yield "## Limits"
        yield ""
        count = self.eval.get("records")
        if self.metrics:
            yield "- The scores hold for texts like those of the test records; others: not tried."
            yield "- The intervals cover the choice of test records, not the seed: one training."
            if isinstance(count, int) and count < FEW_RECORDS:
                yield f"- {count} test records are few: the intervals are wide."
        else:
            yield "- There were no test records: how good it is was not measured."
        for name in self.splits:
            tokens = _part(_part(self.splits, name), "tokens")
            if cut := tokens.get("truncated_rows"):
                longest = tokens.get("max_length")
                yield f"- {cut:,} {name} records were cut: longer than {longest} tokens."
        overlap = _part(self.report, "overlap")
        for pair in overlap:
            if rows := _part(overlap, pair).get("rows"):
                yield f"- {rows:,} records have a text that another split has too ({pair})."
        for warned in read_warnings(self.run.path):
            yield f"- Training warned: {warned.problem}."
        yield "- Faults and biases of the base model are still in it."

    def _machine(self) -> Iterator[str]:
        if cpu := self.environment.get("cpu"):
            yield str(cpu)
        if cores := self.environment.get("usable_cores"):
            yield f"{cores} cores"
        yield from map(str, self.environment.get("gpus") or ())

    def _hub_id(self) -> str | None:
        """Return the base model's id on the hub, where a file of the run says it."""
        base = _part(self.manifest, "base")
        for text in (self.base.get("hub_id"), base.get("source"), self.recipe.get("model")):
            found = re.match(r"([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?=$|[@ ])", str(text or ""))
            if found:
                return found[1]
        return None

    def _fact(self, key: str) -> Any:
        """Return a figure of the training from whichever file has it."""
        return self.eval.get(key, self.environment.get(key))

    def _trained(self) -> str | None:
        trained, total = self._fact("trainable_parameters"), self._fact("total_parameters")
        if not (isinstance(trained, int) and isinstance(total, int) and total):
            return None
        return f"{trained:,} of {total:,} ({trained / total:.2%})"


def _part(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the mapping under `key`; an empty one where there is none."""
    value = values.get(key)
    return dict(value) if isinstance(value, Mapping) else {}


def _row(*cells: Any) -> Iterator[str]:
    yield f"| {' | '.join(str(cell) for cell in cells)} |"


def _code(language: str, *lines: str) -> Iterator[str]:
    yield f"```{language}"
    yield from lines
    yield "```"


def _cell(value: Any) -> str:
    """Return text that cannot break out of its place in a Markdown page."""
    text = " ".join(str(value).split())
    text = re.sub(r"[\\|<>\[\]*`#]", lambda sign: f"&#{ord(sign[0])};", text)
    return text if len(text) <= 200 else text[:200].rsplit("&", 1)[0] + " …"


def _words(name: str) -> str:
    """`macro_f1` -> `Macro F1`."""
    text = " ".join(w.upper() if w in ("f1", "auc", "roc") else w for w in name.split("_"))
    return _cell(text[:1].upper() + text[1:])


def _setting(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(value: Any, digits: int = 4) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:.{digits}f}"


def _interval(score: Mapping[str, Any]) -> str:
    low, high = _number(score.get("low")), _number(score.get("high"))
    return f"{low} to {high}" if low and high else ""


def _score(score: Mapping[str, Any]) -> str:
    value, interval = _number(score.get("value")), _interval(score)
    return f"{value} ({interval})" if interval else value


def _without_folder(name: str) -> str:
    """Return a path's last part, and a hub id as it is: folders of a machine are not shown."""
    path = PurePath(name.replace("\\", "/"))
    is_path = path.is_absolute() or name.startswith((".", "~")) or ":/" in name.replace("\\", "/")
    return path.name if is_path or len(path.parts) > 2 else name
