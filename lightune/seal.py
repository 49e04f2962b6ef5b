"""Prove a run from its folder alone: what it saved is what it reports.

    adapter       it loads from disk onto its base: every file's hash, the base's, names, shapes
    head          a head that the base does not have is in the adapter
    moved         every trained tensor differs from its start
    merged        the base with the adapter's changes inside gives the same outputs, where the
                  method merges
    predictions   the test records are predicted as `predictions.jsonl` says
    scores        the scores of `eval.json` are those of `predictions.jsonl`

Tolerance:  where all test records are predicted again, in the same batches, on the same machine,
            equality is exact; a sample makes other batches, and another machine other sums. So
            probabilities may differ by `TOLERANCES`, and a label only where the two are as near;
            entities, whose scores are means, where one of them may hold such a word.
            The loss of each record counts as a number. Of texts, which one near tie changes for
            good, three quarters must be equal, in float32; drawn ones are not compared. What was
            compared is in the seal.
Sample:     at most `SAMPLE` records, `SAMPLE_TEXTS` where texts are written, evenly spread; how
            many is in the seal.
Errors:     `RunError` naming what failed, or every file that changed since sealing.
Not here:   the file `seal.json` (`runs/sealed.py`), the process a training starts (`sealing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from lightune import __version__
from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import Manifest, read_manifest
from lightune.adapters.merge import merged_state
from lightune.errors import AdapterError, LightuneError, RunError
from lightune.evaluate.predict import evaluating
from lightune.methods.base import Attachment
from lightune.models.load import Base, load
from lightune.run import Run
from lightune.runs import sealed
from lightune.runs.files import write_json
from lightune.runs.folder import RunFolder
from lightune.runs.log import read_log
from lightune.sealing import handed_over, tensor_hashes
from lightune.types import Generation, Prediction, Record

SAMPLE, SAMPLE_TEXTS = 256, 8
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2, "float16": 1e-2}
"""Of probabilities and of numbers relative to 1, by the number format of the run."""
MERGED_TOLERANCE = 1e-3
"""Of outputs of the merged model, relative to the largest output; both in float32."""
NO_MEASURE = {"prediction", "scores", "file", "line", "label", "answer", "target", "tags"}


def verify(path: str | Path, note: Callable[[str], None], seal: bool = False) -> dict[str, Any]:
    """Check a finished run; return its seal's content, with what was found now.

    Args:
        note: takes sentences for the user.
        seal: write `seal.json` where there is none.

    Raises:
        RunError: a file changed since sealing, or a check failed.
    """
    folder = RunFolder.open(path)
    earlier = sealed.read_seal(folder.path)
    if earlier is not None:
        _unchanged(folder.path, sealed.changed(folder.path, earlier), note)
    sealing = seal and earlier is None  # only then may a training have handed something over
    handed = handed_over(folder.path) if sealing else None
    starts = handed[0] if handed else (earlier or {}).get("starts", {})
    run = Run.open(folder.path)
    checks: dict[str, Any] = {}
    records = handed[1] if handed else _records(run, checks, None if sealing else note)
    manifest = read_manifest(folder.adapter)
    base = load(run.recipe.model, run.recipe.task.head(manifest.state), seed=run.recipe.train.seed)
    parts, manifest = load_adapter(folder.adapter, base.model, base.hash())
    checks["adapter"] = f"{sum(len(part.trainable) for part in parts)} trained tensors loaded"
    checks["head"] = _head(base, parts)
    checks["moved"] = _moved(parts, starts)
    checks["merged"] = _merged(run, base, parts, manifest, records)
    del base, parts  # the predictions load it once more
    if records:
        rows = read_log(folder.predictions)
        checks["predictions"] = _predictions(run, records, rows)
        checks["scores"] = _scores(run, records, rows)
    content = {
        "format": sealed.FORMAT,
        "lightune": __version__,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "checks": checks,
        "starts": starts,
        "files": sealed.hashes(folder.path),
    }
    if sealing:
        write_json(folder.path / sealed.SEAL, content)
    elif earlier is None:
        note(f"{folder.path} is not sealed; what was found holds: seal it with --seal")
    return content


def _unchanged(folder: Path, wrong: Sequence[str], note: Callable[[str], None]) -> None:
    damage = [line for line in wrong if not line.endswith(": new")]
    for line in wrong:
        if line not in damage:
            note(f"{line.removesuffix(': new')} came to {folder} after it was sealed")
    if damage:
        raise RunError(
            f"{len(damage)} files of {folder} are not as they were sealed",
            found="; ".join(damage),
            mend="copy these files again from where they came",
        )


def _records(run: Run, checks: dict[str, Any], note: Callable[[str], None] | None) -> list[Record]:
    """Return the test records, read anew; empty, and said, where that cannot be.

    Args:
        note: takes why; None where a seal is to be written, which then is an error.
    """
    if not run.metrics:
        checks["predictions"] = "none: the run has no test records"
        return []
    try:
        return run.test_records()
    except LightuneError as error:
        if note is None:
            raise
        note(f"the predictions were not repeated: {error.problem}")
        checks["predictions"] = f"not repeated: {error.problem}"
        return []


def _head(base: Base, parts: Sequence[Attachment]) -> str:
    """Check that what is random in the loaded base came with the adapter."""
    trained = [path for part in parts for path in part.trainable]
    lacking = [
        module
        for module in base.new_modules
        if not any(path.startswith(f"{module}.") for path in trained)
    ]
    if lacking:
        raise RunError(
            f"the adapter lacks {', '.join(lacking)}, which the base model does not have either",
            found=f"{len(trained)} trained tensors, none of it",
            mend="train again; an adapter without its head gives random answers",
        )
    return ", ".join(base.new_modules) or "the base model's own"


def _moved(parts: Sequence[Attachment], starts: Mapping[str, str]) -> str:
    """Check that training changed every tensor that it was to change."""
    now = tensor_hashes(parts)
    known = [path for path in now if path in starts]
    still = [path for path in known if now[path] == starts[path]]
    if still:
        more = f" and {len(still) - 8} more" if still[8:] else ""
        raise RunError(
            f"{len(still)} of {len(known)} trained tensors are as they were before training",
            found=", ".join(still[:8]) + more,
            mend="look for `no_gradient` in warnings.json: nothing of the loss depends on them; "
            "or train more steps, or with a higher rate",
        )
    if not known:
        return "not known: how the tensors began was not recorded"
    return f"{len(known)} of {len(now)} tensors differ from their start"


@torch.no_grad()
def _merged(
    run: Run,
    base: Base,
    parts: Sequence[Attachment],
    manifest: Manifest,
    records: Sequence[Record],
) -> str:
    """Check that merging gives the same outputs. The model is the plain base afterwards."""
    task, tokenizer = run.recipe.task, base.tokenizer
    if not records:
        return "not compared: no test records"
    state = task.fit_tokenizer(tokenizer, manifest.state)
    longest = manifest.max_length or base.max_length
    examples = task.encode(list(records[:4]), tokenizer, state, longest)
    ids = max((e.inputs["input_ids"] for e in examples), key=len)
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids)).long()}
    model: Any = base.model
    if model.config.is_encoder_decoder and model.get_output_embeddings() is not None:
        inputs["decoder_input_ids"] = inputs["input_ids"][:, :8]
    with evaluating(model):
        before = _output(model(**inputs))
        try:
            state_dict = {k: t.clone() for k, t in merged_state(model, parts).items()}
        except AdapterError as error:
            return f"not merged: {error.problem}"
        for part in parts:  # the method, which came last, is the first of them
            part.detach()
        model.load_state_dict(state_dict, strict=False)
        after = _output(model(**inputs))
    difference = float((after - before).abs().max() / before.abs().max().clamp(min=1e-6))
    if not difference <= MERGED_TOLERANCE:
        raise RunError(
            "merged into its base, the adapter gives other outputs than beside it",
            found=f"largest difference {difference:.2g} of the largest output",
            mend="use the adapter unmerged, and report this",
        )
    return f"outputs differ by at most {difference:.1e} of the largest"


def _output(outputs: Any) -> torch.Tensor:
    """Return the first tensor of a model's output: its logits."""
    return next(iter(v for k, v in outputs.items() if k != "loss")).float()


def _predictions(run: Run, records: Sequence[Record], rows: Sequence[Mapping[str, Any]]) -> Any:
    """Predict some records again and compare with what the run recorded."""
    if len(rows) != len(records):
        raise RunError(
            f"{run.folder / 'predictions.jsonl'} is not that of the test records",
            found=f"{len(rows)} predictions of {len(records)} records",
            mend="copy the file again from where it came",
        )
    writes = run.recipe.task.generation(run.predictor.tokenizer, run.predictor.state, "test")
    most = SAMPLE_TEXTS if writes else SAMPLE
    step = max(1, -(-len(records) // most))
    chosen = range(0, len(records), step)
    predictor = run.predictor
    examples = predictor.encode([records[i] for i in chosen])
    found = predictor.predict(examples, purpose="test")
    dtypes = {_recorded_dtype(run), predictor.prepared.plan.dtype}
    tolerance = max(TOLERANCES[dtype] for dtype in dtypes)
    unread = _why_not_read(writes, dtypes)
    pairs = [(i, rows[i], prediction) for i, prediction in zip(chosen, found, strict=True)]
    wrong = [i for i, row, now in pairs if not agrees(row, now, tolerance, texts=False)]
    other = [i for i, row, now in pairs if not (unread or agrees(row, now, tolerance))]
    if wrong or len(other) > len(pairs) // 4:
        wrong = wrong or other
        raise RunError(
            f"the adapter does not give the predictions that {run.folder} recorded",
            found=f"{len(wrong)} of {len(pairs)} differ, the first: {records[wrong[0]].place}: "
            + "; ".join(
                f"recorded {_shown(row['prediction'], row)}, now {_shown(now.value, now.measures)}"
                for i, row, now in pairs
                if i == wrong[0]
            ),
            mend="copy the run again from where it came, or train again",
        )
    kinds = {
        "probabilities": any(p.scores for p in found),
        "losses": any("loss" in p.measures for p in found),
        "answers": not unread and any(p.value is not None for p in found),
    }
    return {
        "repeated": len(pairs),
        "of": len(records),
        "differ": len(other),
        "within": tolerance,
        "compared": ", ".join(kind for kind, there in kinds.items() if there) + unread,
    }


def _shown(value: Any, measures: Mapping[str, Any]) -> str:
    loss = f" (loss {measures['loss']})" if "loss" in measures else ""
    return f"{str(value)[:60]!r}{loss}"


def _recorded_dtype(run: Run) -> str:
    folder = RunFolder(run.folder)
    return str(folder.read(folder.environment)["plan"]["dtype"])


def _why_not_read(writes: Generation | None, dtypes: set[str]) -> str:
    """Return in words why written texts say nothing of the adapter; empty where they do."""
    if writes and writes.temperature:
        return "; not the texts, which are drawn"
    if writes and dtypes != {"float32"}:
        return f"; not the texts, written in {', '.join(sorted(dtypes))}"
    return ""


def agrees(row: Mapping[str, Any], now: Prediction, tolerance: float, texts: bool = True) -> bool:
    """Whether a prediction is the recorded one.

    Probabilities may differ by `tolerance`; a label may only where both labels are as near.

    Args:
        texts: compare texts as well, beside numbers and labels.
    """
    then = row.get("scores") or {}
    if then.keys() != now.scores.keys():
        return False
    if any(not abs(then[name] - score) <= tolerance for name, score in now.scores.items()):
        return False
    loss, recorded = now.measures.get("loss"), row.get("loss")
    if loss is not None and not (
        isinstance(recorded, int | float)
        and abs(recorded - loss) <= tolerance * max(1.0, abs(recorded))
    ):
        return False
    a, b = row["prediction"], now.value
    if a == b:
        return True
    if isinstance(a, str) and isinstance(b, str) and not then and not texts:
        return True
    if isinstance(a, list) and isinstance(b, list) and not then:
        return _same_parts(a, b, tolerance, texts)
    if isinstance(a, int | float) and isinstance(b, int | float):
        return abs(a - b) <= tolerance * max(1.0, abs(a))
    if isinstance(a, str) and isinstance(b, str) and a in then and b in then:
        return abs(then[a] - then[b]) <= 2 * tolerance
    if isinstance(a, list) and isinstance(b, list) and then:  # several labels: each at its half
        return all(abs(then[x] - 0.5) <= tolerance for x in set(a) ^ set(b) if x in then)
    return False


def _same_parts(a: list[Any], b: list[Any], tolerance: float, texts: bool) -> bool:
    """Whether entities, or several texts of one record, are the recorded ones."""
    if _bare(a) == _bare(b):
        gaps = [abs(_score(x) - _score(y)) for x, y in zip(a, b, strict=True) if x != y]
        return all(gap <= tolerance for gap in gaps)
    if texts:
        return False
    if all(_has_place(part) for part in (*a, *b)):
        return _near_ties(a, b, tolerance)
    return all(isinstance(part, str) for part in (*a, *b))


def _near_ties(a: list[Any], b: list[Any], tolerance: float) -> bool:
    """Whether entities came and went only where two tags of a word were about as probable.

    Such a word's tag has at most `0.5 + tolerance`. It belongs to one of the entities that differ,
    whose score, the mean over its words, is that much below 1; entities that touch it may have
    changed with it. In a text, an entity has at most as many words as characters.
    """
    bare = _bare(a), _bare(b)
    changed = [part for part, its in zip(a, bare[0], strict=True) if its not in bare[1]]
    changed += [part for part, its in zip(b, bare[1], strict=True) if its not in bare[0]]
    unsure = [
        part
        for part in changed
        if _score(part) <= 1 - (0.5 - tolerance) / max(1, part["end"] - part["start"])
    ]
    return all(
        any(part["start"] <= near["end"] and near["start"] <= part["end"] for near in unsure)
        for part in changed
    )


def _has_place(part: Any) -> bool:
    return isinstance(part, Mapping) and all(isinstance(part.get(k), int) for k in ("start", "end"))


def _score(part: Any) -> float:
    return float(part.get("score", "nan"))


def _bare(entities: Sequence[Any]) -> list[Any]:
    """Return entities without their scores; what is none, as it is."""
    return [
        {name: part[name] for name in part if name != "score"}
        if isinstance(part, Mapping)
        else part
        for part in entities
    ]


def _scores(run: Run, records: Sequence[Record], rows: Sequence[Mapping[str, Any]]) -> str:
    """Score `predictions.jsonl` anew and compare with `eval.json`."""
    predictions = [
        Prediction(
            index,
            row["prediction"],
            row.get("scores") or {},
            {key: value for key, value in row.items() if key not in NO_MEASURE},
        )
        for index, row in enumerate(rows)
    ]
    now = run.recipe.task.score(predictions, records, run.predictor.state, intervals=False)
    wrong = []
    for name, score in now.metrics.items():
        then, value = run.metrics.get(name, {}).get("value"), score.value
        same = then is None if value != value else then is not None and abs(then - value) <= 1e-6
        if not same:
            wrong.append(f"{name}: eval.json {then}, of the predictions {value}")
    if wrong:
        raise RunError(
            f"the scores of {run.folder} are not those of its predictions",
            found="; ".join(wrong),
            mend="copy eval.json and predictions.jsonl again from where they came",
        )
    return f"{len(now.metrics)} scores equal"
