"""BLEU and chrF of whole corpora, by sacreBLEU, so that they compare with published scores.

    BLEU    Papineni et al. 2002          chrF    Popović 2015 (character 6-grams, beta 2)

Why:        both are sums over sentences put through one formula. The sums are taken once, so that
            a bootstrap over sentences costs no second counting.
Scale:      0 to 100, as sacreBLEU's. Each score has a signature, which says all that decides it.
Chinese:    sacreBLEU's `zh` splits Chinese by character and the rest as usual; Japanese and Korean
            have no splitter without further packages and are split by character too (`char`).
Errors:     `MissingExtra` where sacreBLEU is not installed.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightune.errors import MissingExtra
from lightune.metrics.intervals import Weights

_CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
_KANA_HANGUL = re.compile(r"[\u3040-\u30ff\uac00-\ud7af]")

Corpus = Callable[[Weights], NDArray[np.float64]]
"""Weights of the sentences `[sentences, resamples]` -> the score of each resample."""


@dataclass(frozen=True, slots=True)
class CorpusScore:
    """One metric of one corpus.

    Attributes:
        value: gives the score of any weighting of the sentences.
        signature: sacreBLEU's.
    """

    value: Corpus
    signature: str


def library() -> Any:
    """Return sacreBLEU's metrics.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        from sacrebleu import metrics
    except ImportError:
        raise MissingExtra.of("sacrebleu", "metrics", "scoring by BLEU and chrF") from None
    return metrics


def splitter(references: Sequence[Sequence[str]]) -> str:
    """Return the name of sacreBLEU's splitter for these references: `13a`, `zh` or `char`."""
    text = "".join(line for lines in references for line in lines)
    letters = sum(map(str.isalpha, text))
    if 8 * len(_KANA_HANGUL.findall(text)) > letters > 0:  # Japanese is written with kanji between
        return "char"
    return "zh" if 2 * len(_CHINESE.findall(text)) > letters > 0 else "13a"


def bleu(
    written: Sequence[str], references: Sequence[Sequence[str]], split: str
) -> tuple[CorpusScore, Corpus]:
    """Return BLEU, and the ratio of the lengths written and expected, in its tokens.

    Args:
        written: one text per sentence.
        references: one or several texts per sentence.
        split: see `splitter`.
    """
    metric = library().BLEU(tokenize=split, force=True)  # `force` only silences a warning
    sums = _statistics(metric, written, references)

    def ratio(weights: Weights) -> NDArray[np.float64]:
        lengths = sums[:, :2].T @ weights
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(lengths[1] > 0, lengths[0] / lengths[1], np.nan)

    return _score(metric, sums), ratio


def chrf(written: Sequence[str], references: Sequence[Sequence[str]]) -> CorpusScore:
    """Return chrF; see `bleu`."""
    metric = library().CHRF()
    return _score(metric, _statistics(metric, written, references))


def _statistics(
    metric: Any, written: Sequence[str], references: Sequence[Sequence[str]]
) -> NDArray[np.float64]:
    """Return what sacreBLEU sums up over sentences, `[sentences, counts]`."""
    most = max(map(len, references))
    streams = [[(*lines, *[None] * most)[k] for lines in references] for k in range(most)]
    found = metric._extract_corpus_statistics(list(written), streams)
    return np.array(found, dtype=np.float64)


def _score(metric: Any, sums: NDArray[np.float64]) -> CorpusScore:
    def value(weights: Weights) -> NDArray[np.float64]:
        totals = (sums.T @ weights).round().astype(np.int64).T.tolist()
        return np.array([metric._compute_score_from_stats(row).score for row in totals])

    return CorpusScore(value, str(metric.get_signature()))
