"""The output layer a task asks for, and the Transformers class that brings it.

One entry per `HeadKind` but `any_lm`, which is one of two others. A new kind of task adds its line
here and its word in `types.py`.
"""

from dataclasses import replace
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
)

from lightune.errors import ModelError
from lightune.types import HeadKind, HeadSpec

LANGUAGE_MODELS: tuple[HeadKind, ...] = ("causal_lm", "seq2seq_lm", "any_lm")
"""Heads that are the model's own vocabulary, and never new."""

_CLASSES: dict[HeadKind, tuple[Any, Any]] = {
    "sequence_classification": (
        AutoModelForSequenceClassification,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    ),
    "regression": (
        AutoModelForSequenceClassification,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    ),
    "token_classification": (
        AutoModelForTokenClassification,
        MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    ),
    "question_answering": (AutoModelForQuestionAnswering, MODEL_FOR_QUESTION_ANSWERING_MAPPING),
    "causal_lm": (AutoModelForCausalLM, MODEL_FOR_CAUSAL_LM_MAPPING),
    "seq2seq_lm": (AutoModelForSeq2SeqLM, MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING),
}


def supports(config: PreTrainedConfig, kind: HeadKind) -> bool:
    """Say whether this architecture can have this head.

    Transformers also builds causal language models of encoders (BERT) and of the decoder alone of
    an encoder–decoder (BART); their weights were not trained to go on with a text, so neither
    counts.
    """
    if kind == "causal_lm":
        both_ways = type(config) in MODEL_FOR_MASKED_LM_MAPPING
        decodes = getattr(config, "is_decoder", False)
        if config.is_encoder_decoder or (both_ways and not decodes):
            return False
    return type(config) in _CLASSES[kind][1]


def language_model_kind(config: PreTrainedConfig) -> HeadKind:
    """Return which of the two kinds `any_lm` is on this architecture."""
    return "seq2seq_lm" if config.is_encoder_decoder else "causal_lm"


def auto_class(config: PreTrainedConfig, head: HeadSpec) -> Any:
    """Return the auto class that builds `head` on this architecture.

    Raises:
        ModelError: Transformers has none.
    """
    if head.kind == "any_lm":
        head = replace(head, kind=language_model_kind(config))
    auto, _ = _CLASSES[head.kind]
    if not supports(config, head.kind) and head.kind == "causal_lm":
        raise ModelError(
            f"model: architecture {config.model_type!r} does not write text from left to right",
            found=f"{type(config).__name__}: an encoder, or an encoder with a decoder",
            mend="a decoder, such as `model: smollm2-135m` (`lightune models` lists others)",
        )
    if not supports(config, head.kind) and head.kind == "seq2seq_lm":
        raise ModelError(
            f"model: architecture {config.model_type!r} does not write one text from another",
            found=f"{type(config).__name__}, which {auto.__name__} does not take",
            mend="an encoder with a decoder (T5, BART, Marian), or a decoder",
        )
    if not supports(config, head.kind):
        raise ModelError(
            f"model: architecture {config.model_type!r} has no {head.kind.replace('_', ' ')} head",
            found=f"{type(config).__name__}, which {auto.__name__} does not take",
            mend="another model: `lightune models` lists some that are known to work",
        )
    return auto


def configure(config: PreTrainedConfig, head: HeadSpec) -> None:
    """Write the head's labels into the configuration, in place; a vocabulary has none.

    Raises:
        ModelError: a classification head without labels.
    """
    if head.kind in LANGUAGE_MODELS:
        return
    if not head.labels:
        raise ModelError(f"a {head.kind} head needs labels", "none", "give the task its labels")
    config.id2label = dict(enumerate(head.labels))
    config.label2id = {label: index for index, label in enumerate(head.labels)}
    if head.kind == "regression":
        config.problem_type = "regression"
    elif head.kind == "sequence_classification":
        single = "single_label_classification"
        config.problem_type = "multi_label_classification" if head.multi_label else single


def labels_of(config: PreTrainedConfig) -> tuple[str, ...]:
    """Return the class names that a checkpoint's own head was trained for."""
    return tuple(str(config.id2label[index]) for index in sorted(config.id2label))
