"""The scores that a command has as JSON, as the table of the report."""

from collections.abc import Mapping
from typing import Any


def scores_table(report: Mapping[str, Any], title: str) -> Any:
    """Return metrics with intervals, baselines, classes and notes, for `Output.show`.

    Args:
        report: `metrics`, `baselines` and `tables`, as in `eval.json`.
        title: what was scored.
    """
    from lightune.evaluate.report import report as render
    from lightune.tasks.base import Scores
    from lightune.types import Score

    metrics = {name: Score(**score) for name, score in report["metrics"].items()}
    return render(Scores(metrics, report["tables"], report["baselines"]), title)
