"""The data report: what the rows are and what is odd about them; as a dict, and as a few lines.

Why:     most bad models are bad data: duplicates, leaks, cut texts, one label in a hundred. The
         report puts a number on each before training starts, and stays in the run folder.
Shape:   {"splits": {split: {"rows", "labels", …, "characters", "tokens"}}, "columns", "overlap",
         "notes"}. JSON-ready; `tokens` is there once `add_lengths` was called. `columns` are those
         of the training data by field, which later files are read by.
"""

import hashlib
import json
import statistics
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from lightune.data.records import Made
from lightune.data.split import LEARNT, text_key
from lightune.types import Record

_SHOWN = 12


def describe_split(records: Sequence[Record], made: Made | None = None) -> dict[str, Any]:
    """Return what is to be said of one split.

    Args:
        made: how its records were read, where the split was read from files of its own.
    """
    labels = Counter(label for record in records for label in _labels(record))
    by_text: dict[Hashable, list[Record]] = {}
    for record in records:
        by_text.setdefault(text_key(record), []).append(record)
    twice = [group for group in by_text.values() if len(group) > 1]
    clashes = [g for g in twice if len({tuple(_labels(r)) for r in g}) > 1]
    lengths = [sum(map(len, _texts(record))) for record in records]
    return {
        "files": list(dict.fromkeys(record.place.file for record in records)),
        "rows": len(records),
        "rows_read": made.rows if made else len(records),
        "empty_texts": len(made.empty) if made else sum(not any(_texts(r)) for r in records),
        "missing_labels": len(made.unlabelled) if made else 0,
        "labels": dict(sorted(labels.items(), key=lambda item: (-item[1], item[0]))),
        "imbalance_ratio": max(labels.values()) / min(labels.values()) if labels else None,
        "numbers": _numbers(records),
        "duplicate_texts": sum(len(group) - 1 for group in twice),
        "conflicting_texts": len(clashes),
        "conflicting_examples": [[str(r.place) for r in g[:2]] for g in clashes[:5]],
        "characters": _summary(lengths),
        "sha256": _content_hash(records),
    }


def overlaps(splits: Mapping[str, Sequence[Record]]) -> dict[str, dict[str, int]]:
    """Return, for every two splits, how many exact texts they share and how many rows these are
    in the second."""
    keys = {name: [text_key(record) for record in records] for name, records in splits.items()}
    found = {}
    for a, b in combinations(keys, 2):
        shared = set(keys[a]) & set(keys[b])
        found[f"{a}/{b}"] = {"texts": len(shared), "rows": sum(key in shared for key in keys[b])}
    return found


def add_lengths(
    report: dict[str, Any],
    split: str,
    lengths: Sequence[int],
    max_length: int,
    dropped: Sequence[int],
) -> None:
    """Add to a split's report what truncation loses, in tokens.

    Args:
        lengths: tokens of every example as the model reads it, after truncation.
        max_length: where texts were cut.
        dropped: tokens that truncation took from every example.
    """
    whole = [length + lost for length, lost in zip(lengths, dropped, strict=True)]
    cut = sum(lost > 0 for lost in dropped)
    report["splits"][split]["tokens"] = {
        **_summary(whole),
        "max_length": max_length,
        "truncated_rows": cut,
        "truncated_share": cut / max(len(dropped), 1),
        "tokens_lost": sum(dropped),
        "tokens_lost_share": sum(dropped) / max(sum(whole), 1),
    }


def render(report: Mapping[str, Any]) -> list[str]:
    """Return the report as plain lines for people."""
    lines = []
    for name, split in report["splits"].items():
        labels = [f"{label} {count:,}" for label, count in split["labels"].items()]
        more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
        shown = f"; {', '.join(labels[:_SHOWN])}{more}" if labels else ""
        lines.append(f"{name}: {count(split['rows'], 'row')}{shown}")
        odd = [
            f"{split[key]:,} {text}"
            for key, text in (
                ("empty_texts", "with an empty text"),
                ("missing_labels", "without label"),
                ("duplicate_texts", "repeat another row's text"),
                ("conflicting_texts", "texts with two labels"),
            )
            if split.get(key)
        ]
        if split["imbalance_ratio"] and split["imbalance_ratio"] >= 2:
            odd.append(f"largest label {split['imbalance_ratio']:.1f} times the smallest")
        if odd:
            lines.append(f"  {'; '.join(odd)}")
        if facts := split.get("numbers"):
            lines.append(
                "  numbers from {min:g} to {max:g}, mean {mean:.4g}, median {median:g}".format(
                    **facts
                )
            )
        for unit in ("characters", "tokens"):
            if facts := split.get(unit):
                line = "  {} a text: median {:g}, 95 % up to {:g}, longest {:,}".format(
                    unit, facts["median"], facts["p95"], facts["max"]
                )
                if facts.get("truncated_rows"):
                    line += (
                        f"; {facts['truncated_rows']:,} rows cut at {facts['max_length']} "
                        f"({facts['tokens_lost_share']:.1%} of all tokens lost)"
                    )
                lines.append(line)
    for pair, shared in report["overlap"].items():
        if shared["texts"]:
            first, second = pair.split("/")
            lines.append(f"texts that {first} has too: {count(shared['rows'], 'row')} of {second}")
        if shared.get("near_rows"):
            lines.append(near_line(pair, shared))
    return lines


def near_line(pair: str, shared: Mapping[str, Any]) -> str:
    """Return the line on near duplicates of two splits."""
    first, second = pair.split("/")
    train, other = shared["compared"]
    of = shared["near_rows"], f"{count(other, 'row')} of {second}"
    return (
        f"texts almost as in {first}: {of[0]:,} of {of[1]} (8 of 10 words the same, "
        f"{count(train, 'row')} of {first} compared)"
    )


def count(number: int, noun: str) -> str:
    """Return `1 row`, `2 rows`, `1,000 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _texts(record: Record) -> list[str]:
    """Return the texts that are read, the turns of a conversation each on its own."""
    read = [value for name, value in record.values.items() if name not in LEARNT]
    return list(flat_texts(read))


def flat_texts(value: Any) -> Iterator[str]:
    """Yield every text in a field, the turns of a conversation each on its own."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from flat_texts([value.get(name) for name in ("content", "value", "text")])
    elif isinstance(value, list | tuple):
        for item in value:
            yield from flat_texts(item)


def _labels(record: Record) -> list[str]:
    label = record.values.get("label")
    if isinstance(label, list):
        return sorted(map(str, label))
    return [] if label is None or isinstance(label, float) else [str(label)]


def _numbers(records: Sequence[Record]) -> dict[str, float] | None:
    """Return what numbers the records are labelled with; None where labels are words."""
    numbers = [n for record in records if isinstance(n := record.values.get("label"), float)]
    if not numbers:
        return None
    return {**_summary(numbers), "mean": statistics.fmean(numbers)}


def _summary(lengths: Sequence[float]) -> dict[str, float]:
    if not lengths:
        return {"min": 0, "median": 0, "p95": 0, "max": 0}
    ordered = sorted(lengths)
    return {
        "min": ordered[0],
        "median": statistics.median(ordered),
        "p95": ordered[-(len(ordered) // 20) - 1],
        "max": ordered[-1],
    }


def _content_hash(records: Sequence[Record]) -> str:
    """Return a hash of the values, so that two runs can tell whether they saw the same rows."""
    encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True, default=str).encode
    lines = "\n".join([encode(dict(record.values)) for record in records])
    return hashlib.sha256(lines.encode("utf-8", "surrogatepass")).hexdigest()
