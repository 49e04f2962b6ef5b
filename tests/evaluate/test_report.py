"""What a reader of the tables sees, and must be told; users' own metrics beside them."""

import math
import random

import pytest
from rich.console import Console

from lightune.errors import ConfigError, DataError
from lightune.evaluate.custom import add_metrics
from lightune.evaluate.report import MOST_CLASSES, notes, plain_text, report
from lightune.tasks.base import Scores
from lightune.types import Score


def per_class(label, support=5):
    share = {"precision": None, "recall": 0.5, "f1": 0.25}
    return {"label": label, **share, "support": support, "predicted": 0}


def scores(value=0.9, low=0.88, high=0.92, labels=("ham", "[red]体育"), records=800, said=()):
    return Scores(
        metrics={"accuracy": Score(value, low, high), "calibration_error": Score(0.05)},
        tables={
            "per_class": [per_class(label) for label in labels],
            "records": records,
            "notes": list(said),
        },
        baselines={"majority_class": {"accuracy": 0.6}},
    )


def test_plain_text_holds_every_number_and_no_control_codes():
    text = plain_text(scores(said=["roc_auc is undefined"]), "Test")
    for part in (
        *("Test (800 records)", "accuracy", "0.900", "0.880 to 0.920", "majority class", "0.600"),
        *("calibration_error (lower is better)", "0.050", "[red]体育", "0.250", "note: roc_auc is"),
    ):
        assert part in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_console_draws_the_same_in_colour():
    console = Console(width=80, force_terminal=True, color_system="standard")
    with console.capture() as captured:
        console.print(report(scores()))
    assert "\x1b[1m" in captured.get()
    assert "[red]体育" in captured.get()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (scores(), None),
        (
            scores(0.9, 0.7, 1.0, records=20),
            "with 20 test records the interval of accuracy is wide",
        ),
        (scores(0.9, 0.025, 1.0, records=1), "with 1 test record the"),
        (scores(0.6, 0.58, 0.62), "no better than majority class (0.600)"),
        (Scores({"bleu": Score(20.0, 15.0, 24.0)}, {}, {}), None),
        (Scores({"bleu": Score(20.0, 10.0, 24.0)}, {}, {}), "bleu is wide"),
        (
            Scores({"perplexity": Score(20.0, 15.0, 24.0)}, {}, {"start": {"perplexity": 30.0}}),
            None,
        ),
        (Scores({"mae": Score(2.0)}, {}, {"training_mean": {"mae": 1.0}}), "no better than"),
        (Scores({}, {}, {}), None),
        (Scores({"rouge": Score(0.2)}, {}, {}), None),
    ],
)
def test_what_must_be_said(given, said):
    found = notes(given)
    assert bool(found) == bool(said)
    assert said is None or said in found[0]
    assert plain_text(given)


def test_many_classes_show_the_largest_in_their_order():
    many = scores()
    many.tables["per_class"] = [per_class(f"class-{i}", support=i) for i in range(50)]
    text = plain_text(many)
    assert "class-19 " not in text
    assert text.index("class-20 ") < text.index("class-49 ")
    assert f"the {MOST_CLASSES} largest of 50 classes" in text


class TestUsersMetrics:
    TRUTH, PREDICTED = ["a", "b", "b", "a"] * 5, ["a", "b", "a", "a"] * 5

    @staticmethod
    def share(truth, predicted):
        return sum(t == p for t, p in zip(truth, predicted, strict=True)) / len(truth)

    def test_stand_after_the_tasks_own_and_leave_those_alone(self):
        before = scores()
        after = add_metrics(before, {"mine": self.share}, self.TRUTH, self.PREDICTED)
        assert list(after.metrics) == ["accuracy", "calibration_error", "mine"]
        assert after.metrics["mine"] == Score(0.75)
        assert "mine" not in before.metrics
        assert "0.750" in plain_text(after)

    def test_interval_on_demand(self):
        once, again = (
            add_metrics(scores(), {"mine": self.share}, self.TRUTH, self.PREDICTED, resamples=200)
            for _ in range(2)
        )
        assert once == again
        assert once.metrics["mine"].low < 0.75 < once.metrics["mine"].high

    def test_seldom_defined_has_no_interval(self):
        def fussy(truth, predicted):
            return 1.0 if truth == self.TRUTH else math.nan

        after = add_metrics(scores(), {"mine": fussy}, self.TRUTH, self.PREDICTED, resamples=20)
        assert after.metrics["mine"] == Score(1.0)

    def test_a_function_that_sorts_its_lists_spoils_nothing(self):
        def rude(truth, predicted):
            random.shuffle(truth)
            return 0.5

        add_metrics(scores(), {"rude": rude}, self.TRUTH, self.PREDICTED)
        assert self.TRUTH == ["a", "b", "b", "a"] * 5

    @pytest.mark.parametrize("value", [None, "0.5", math.nan, math.inf])
    def test_no_number(self, value):
        with pytest.raises(ConfigError, match="'mine' returned no number"):
            add_metrics(scores(), {"mine": lambda t, p: value}, self.TRUTH, self.PREDICTED)

    def test_taken_name_and_other_length(self):
        with pytest.raises(ConfigError, match="named 'accuracy' already"):
            add_metrics(scores(), {"accuracy": self.share}, self.TRUTH, self.PREDICTED)
        with pytest.raises(DataError, match="one prediction per record"):
            add_metrics(scores(), {"mine": self.share}, self.TRUTH, self.PREDICTED[1:])

    def test_the_users_own_exception_rises(self):
        with pytest.raises(ZeroDivisionError):
            add_metrics(scores(), {"mine": lambda t, p: 1 / 0}, self.TRUTH, self.PREDICTED)
