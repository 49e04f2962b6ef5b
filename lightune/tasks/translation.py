"""Translation: a text of one language is written in another; scored by BLEU and chrF.

All but the names of the columns and the scores is in `source_target.py`.
"""

from typing import ClassVar

from lightune.tasks import base
from lightune.tasks.base import Task
from lightune.tasks.source_target import SourceTarget


class Translation(SourceTarget, Task):
    """A text in another language."""

    name: ClassVar[str] = "translation"
    summary: ClassVar[str] = "write texts of one language in another"
    fields: ClassVar[tuple[base.Field, ...]] = (
        base.Field("source", ("source", "src", "source_text", "text", "en", "原文")),
        base.Field(
            "target",
            ("target", "tgt", "translation", "target_text", "reference", "references", "译文"),
            "texts",
            needed_to_predict=False,
        ),
    )
    measured: ClassVar[tuple[str, ...]] = ("bleu", "chrf", "length_ratio")
    deciding: ClassVar[str] = "bleu"
    default_model: ClassVar[str] = "Helsinki-NLP/opus-mt-en-fr"
