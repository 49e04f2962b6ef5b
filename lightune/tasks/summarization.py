"""Summarization: a long text is written short; scored by ROUGE.

All but the names of the columns and the scores is in `source_target.py`.
"""

from typing import ClassVar

from lightune.tasks import base
from lightune.tasks.base import Task
from lightune.tasks.source_target import SourceTarget


class Summarization(SourceTarget, Task):
    """A text in fewer words."""

    name: ClassVar[str] = "summarization"
    summary: ClassVar[str] = "write long texts short"
    fields: ClassVar[tuple[base.Field, ...]] = (
        base.Field(
            "source", ("document", "article", "source", "text", "dialogue", "content", "正文")
        ),
        base.Field(
            "target",
            ("summary", "summaries", "highlights", "target", "abstract", "headline", "摘要"),
            "texts",
            needed_to_predict=False,
        ),
    )
    measured: ClassVar[tuple[str, ...]] = ("rouge_l", "rouge_1", "rouge_2", "length_ratio")
    deciding: ClassVar[str] = "rouge_l"
    default_model: ClassVar[str] = "smollm2-135m"
