"""Text to text: any text that is written from another (data to text, rewriting, correction …).

All but the names of the columns and the scores is in `source_target.py`.
"""

from typing import ClassVar

from lightune.tasks import base
from lightune.tasks.base import Task
from lightune.tasks.source_target import SourceTarget


class Text2Text(SourceTarget, Task):
    """A text written from another."""

    name: ClassVar[str] = "text2text"
    summary: ClassVar[str] = "write one text from another"
    fields: ClassVar[tuple[base.Field, ...]] = (
        base.Field("source", ("source", "input", "mr", "text", "prompt", "question", "输入")),
        base.Field(
            "target",
            ("target", "output", "targets", "ref", "reference", "references", "answer", "输出"),
            "texts",
            needed_to_predict=False,
        ),
    )
    measured: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "rouge_l", "length_ratio")
    deciding: ClassVar[str] = "bleu"
    default_model: ClassVar[str] = "smollm2-135m"
