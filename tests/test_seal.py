"""The proof of a run: a new process repeats it, and nothing that was changed passes."""

import json
import shutil
import subprocess

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import lines, rows, small_run, write_csv

from lightune import pipeline, seal, sealing
from lightune.adapters.files import sha256
from lightune.cli.main import main
from lightune.errors import RunError
from lightune.run import Run
from lightune.runs.files import write_json, write_jsonl
from lightune.runs.folder import RunFolder
from lightune.types import Generation, Place, Prediction, Record


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory):
    """Return a finished run, and the hashes of its tensors before training."""
    home = tmp_path_factory.mktemp("made")
    started: list[dict[str, str]] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("loss_curve", "confusion_matrix"):
            patch.setattr(pipeline.plots, name, lambda *arguments: None)
        patch.setattr(pipeline, "seal_run", lambda f, starts, r, n: started.append(starts))
        data = str(write_csv(home / "rows.csv", rows()))
        run = small_run(home / "run", tiny("bert"), "lora", data=data, max_steps=4)
    return run.folder, started[0]


@pytest.fixture
def run(made, tmp_path):
    """Return a copy of the run, and what a training would hand over beside it."""
    folder = shutil.copytree(made[0], tmp_path / "run")
    records = Run.open(folder).test_records()
    handed = [[dict(r.values), r.place.file, r.place.line] for r in records]
    (folder / sealing.INPUT).write_text(json.dumps({"starts": made[1], "records": handed}))
    return folder


def sealed(folder) -> dict:
    found = seal.verify(folder, lambda text: None, seal=True)
    (folder / sealing.INPUT).unlink()
    return found


def refused(folder) -> str:
    with pytest.raises(RunError) as caught:
        seal.verify(folder, lambda text: None, seal=True)
    return str(caught.value)


def test_a_good_run_is_proved_and_proved_again(run):
    checks = sealed(run)["checks"]
    assert checks["head"] == "classifier"
    assert checks["moved"].startswith(
        f"{len(load_file(run / 'adapter/adapter_model.safetensors'))} of"
    )
    assert "outputs differ by at most" in checks["merged"]
    repeated = {"repeated": 8, "of": 8, "differ": 0, "within": 1e-3}
    assert checks["predictions"] == repeated | {"compared": "probabilities, answers"}
    assert "scores equal" in checks["scores"]
    notes: list[str] = []
    again = seal.verify(run, notes.append)
    assert again["checks"] == checks
    assert notes == []


def test_every_changed_file_is_named(run):
    listed = sealed(run)["files"]
    assert {"recipe.yaml", "eval.json", "adapter/adapter_model.safetensors"} <= set(listed)
    for name in ("metrics.jsonl", "README.md"):
        with (run / name).open("ab") as file:
            file.write(b" ")
    (run / "environment.json").rename(run / "gone.json")
    with pytest.raises(RunError, match="is incomplete"):
        seal.verify(run, print)
    (run / "gone.json").rename(run / "environment.json")
    (run / "adapter" / "adapter_config.json").unlink()
    text = refused(run)
    assert "3 files of" in text
    for expected in (
        "metrics.jsonl: changed",
        "README.md: changed",
        "adapter_config.json: missing",
    ):
        assert expected in text


def test_a_new_file_is_told_and_no_fault(run):
    sealed(run)
    (run / "notes.txt").write_text("mine")
    notes: list[str] = []
    seal.verify(run, notes.append)
    assert notes == [f"notes.txt came to {run} after it was sealed"]


def test_a_damaged_seal_is_an_error(run):
    sealed(run)
    (run / "seal.json").write_text("{}")
    assert "seal.json is damaged" in refused(run)


def edit(folder, change):
    """Change the adapter's tensors and let the manifest vouch for them."""
    file = folder / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    manifest = json.loads((folder / "adapter" / "lightune.json").read_text())
    manifest["files"][file.name] = sha256(file)
    write_json(folder / "adapter" / "lightune.json", manifest)


def test_weights_that_do_not_give_the_predictions(run):
    def other(tensors):
        name = next(key for key in tensors if key.endswith("classifier.weight"))
        tensors[name] = tensors[name] + 1.0 * torch.randn_like(tensors[name])

    edit(run, other)
    assert "does not give the predictions" in refused(run)


def test_a_tensor_that_did_not_move(run):
    handed = json.loads((run / sealing.INPUT).read_text())
    path, _ = next(iter(handed["starts"].items()))
    found: dict[str, str] = {}
    real = sealing.tensor_hashes
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seal, "tensor_hashes", lambda parts: found.setdefault("now", real(parts)))
        seal.verify(run, lambda text: None)
    handed["starts"][path] = found["now"][path]
    (run / sealing.INPUT).write_text(json.dumps(handed))
    text = refused(run)
    assert "as they were before training" in text
    assert path in text


def test_scores_that_are_not_those_of_the_predictions(run):
    report = json.loads((run / "eval.json").read_text())
    report["metrics"]["accuracy"]["value"] += 0.01
    write_json(run / "eval.json", report)
    assert "accuracy: eval.json" in refused(run)


def test_predictions_of_other_records(run):
    write_jsonl(run / "predictions.jsonl", lines(run / "predictions.jsonl")[:-1])
    assert "7 predictions of 8 records" in refused(run)


def test_a_merge_that_changes_the_outputs(run, monkeypatch):
    real = seal.merged_state

    def wrong(model, parts):
        state = real(model, parts)
        changed = [name for part in parts for name in part.deltas]
        return state | {name: state[name] + torch.randn_like(state[name]) for name in changed}

    monkeypatch.setattr(seal, "merged_state", wrong)
    assert "merged into its base" in refused(run)


def test_a_head_that_is_not_in_the_adapter():
    base = type("Base", (), {"new_modules": ["classifier", "scorer"]})()
    part = type("Part", (), {"trainable": {"classifier.weight": None}})()
    with pytest.raises(RunError, match="lacks scorer"):
        seal._head(base, [part])


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        (("a", {"a": 0.9, "b": 0.1}), ("a", {"a": 0.9004, "b": 0.0996}), True),
        (("a", {"a": 0.9, "b": 0.1}), ("a", {"a": 0.902, "b": 0.098}), False),
        (("a", {"a": 0.5004, "b": 0.4996}), ("b", {"a": 0.4999, "b": 0.5001}), True),
        (("a", {"a": 0.9, "b": 0.1}), ("b", {"a": 0.9, "b": 0.1}), False),
        ((["a"], {"a": 0.9, "b": 0.4999}), (["a", "b"], {"a": 0.9, "b": 0.5}), True),
        ((["a"], {"a": 0.9, "b": 0.4}), (["a", "b"], {"a": 0.9, "b": 0.4}), False),
        ((2.0, {}), (2.0005, {}), True),
        ((2.0, {}), (2.01, {}), False),
        (("a text", {}), ("a text", {}), True),
        (("a text", {}), ("another", {}), False),
        (([{"start": 0, "score": 0.5}], {}), ([{"start": 0, "score": 0.5004}], {}), True),
        (([{"start": 0, "score": 0.5}], {}), ([{"start": 0, "score": 0.6}], {}), False),
        (([{"start": 0, "score": 0.5}], {}), ([{"start": 1, "score": 0.5}], {}), False),
        (([{"start": 0, "score": 0.5}], {}), ([], {}), False),
        ((["x"], {}), ([{"start": 0, "score": 0.5}], {}), False),
        (("a", {"a": 1.0}), ("a", {}), False),
        (("a", {"a": float("nan")}), ("a", {"a": 1.0}), False),
    ],
)  # fmt: skip
def test_what_counts_as_the_same_prediction(then, now, same):
    row = {"prediction": then[0], "scores": then[1]}
    assert seal.agrees(row, Prediction(0, *now), 1e-3) is same


def part(start, end, score, label="PER"):
    return {"text": "x", "label": label, "start": start, "end": end, "score": score}


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        ([part(0, 1, 0.5)], [], True),
        ([part(0, 1, 0.999)], [], False),
        ([], [part(4, 6, 0.75)], True),
        ([], [part(4, 6, 0.76)], False),
        ([part(0, 2, 0.99)], [part(0, 3, 0.83)], True),  # the third word is as near
        ([part(0, 2, 0.99)], [part(0, 3, 0.99)], False),
        ([part(0, 2, 0.99)], [part(0, 2, 0.99, "LOC")], False),
        ([part(0, 2, 0.99), part(5, 6, 0.9)], [part(0, 3, 0.83)], False),
        ([part(0, 1, 0.5), part(5, 6, 0.9)], [part(5, 6, 0.9)], True),
        ([{"start": 0, "end": "x", "score": 0.5}], [], False),
        (["a", "b"], ["a", "c"], True),
        (["a"], [part(0, 1, 0.5)], False),
    ],
)
def test_entities_change_only_where_two_tags_are_as_probable(then, now, same):
    row = {"prediction": then}
    assert seal.agrees(row, Prediction(0, now), 1e-3, texts=False) is same


@pytest.mark.parametrize(
    ("then", "now", "same"), [(2.0, 2.001, True), (2.0, 2.1, False), (None, 2.0, False)]
)
def test_the_loss_of_a_record_is_compared(then, now, same):
    row = {"prediction": None, "loss": then}
    assert seal.agrees(row, Prediction(0, None, {}, {"loss": now}), 1e-3) is same


class Repeated:
    """Stands for a run whose predictions are repeated."""

    def __init__(self, folder, values, dtype="float32", temperature=None):
        write_json(folder / "environment.json", {"plan": {"dtype": dtype}})
        how = None if temperature is None else Generation(4, (), temperature=temperature)
        found = [Prediction(i, value, {}, {"loss": 2.0}) for i, value in enumerate(values)]
        self.folder, self.recipe, self.predictor = folder, self, self
        self.task, self.prepared, self.plan = self, self, self
        self.dtype, self.tokenizer, self.state = "float32", None, {}
        self.generation = lambda tokenizer, state, purpose: how
        self.encode = lambda records: records
        self.predict = lambda examples, purpose: found


@pytest.mark.parametrize(
    ("then", "now", "options", "expected"),
    [
        ([1.0] * 8, [1.0] * 7 + [1.1], {}, "1 of 8 differ"),
        (["a"] * 8, ["a"] * 6 + ["b"] * 2, {"temperature": 0.0}, (2, "losses, answers")),
        (["a"] * 8, ["a"] * 5 + ["b"] * 3, {"temperature": 0.0}, "3 of 8 differ"),
        (["a"] * 8, ["b"] * 8, {"temperature": 0.7}, (0, "losses; not the texts, which are drawn")),
        (["a"] * 8, ["b"] * 8, {"temperature": 0.0, "dtype": "bfloat16"},
         (0, "losses; not the texts, written in bfloat16, float32")),
        ([1.0] * 8, [1.0] * 7 + [1.01], {"dtype": "bfloat16"}, (0, "losses, answers")),
    ],
)  # fmt: skip
def test_how_many_predictions_may_differ(tmp_path, then, now, options, expected):
    rows = [{"prediction": value, "loss": 2.0} for value in then]
    records = [Record({}, Place("x", line)) for line in range(8)]
    run = Repeated(tmp_path, now, **options)
    if isinstance(expected, str):
        with pytest.raises(RunError, match=expected):
            seal._predictions(run, records, rows)
        return
    found = seal._predictions(run, records, rows)
    assert (found["differ"], found["compared"]) == expected
    rows[3]["loss"] = 2.5
    with pytest.raises(RunError, match="1 of 8 differ"):
        seal._predictions(run, records, rows)


def test_records_that_cannot_be_had_are_told_and_leave_a_run_unsealed():
    class Moved:
        metrics = {"accuracy": {}}

        def test_records(self):
            raise RunError("the data changed")

    notes, checks = [], {}
    assert seal._records(Moved(), checks, notes.append) == []
    assert notes == ["the predictions were not repeated: the data changed"]
    with pytest.raises(RunError, match="the data changed"):
        seal._records(Moved(), checks, None)


def test_what_a_stranger_hands_over_is_not_believed(run):
    (run / sealing.INPUT).write_text(json.dumps({"starts": {}, "records": []}))
    found = seal.verify(run, lambda text: None)
    assert found["checks"]["predictions"]["repeated"] == 8


def test_an_encoder_decoder_that_classifies_is_proved(tiny, tmp_path):
    data = str(write_csv(tmp_path / "rows.csv", rows()))
    run = small_run(tmp_path / "run", tiny("bart"), data=data)
    checks = seal.verify(run.folder, lambda text: None)["checks"]
    assert "outputs differ by at most" in checks["merged"]


def test_training_seals_in_a_new_process_and_verify_tells(tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "seal_run", sealing.seal_run)
    for name in ("loss_curve", "confusion_matrix"):
        monkeypatch.setattr(pipeline.plots, name, lambda *arguments: None)
    notes: list[str] = []
    given = {"max_steps": 4, "precision": "fp32", "engine": {"threads": 1}}
    run = pipeline.train(
        task="classification", model=str(tiny("bert")), method="bottleneck", data=rows(),
        train=given, out=tmp_path / "run", progress="silent", note=notes.append,
    )  # fmt: skip
    assert not [note for note in notes if "not sealed" in note], notes
    checks = json.loads((run.folder / "seal.json").read_text())["checks"]
    assert checks["predictions"]["repeated"] == 8, "records from Python are handed over"
    assert checks["merged"].startswith("not merged")
    assert not (run.folder / sealing.INPUT).exists()
    Run.open(run.folder, notes.append)
    assert not [note for note in notes if "not sealed" in note]
    (run.folder / "eval.json").write_text((run.folder / "eval.json").read_text() + " ")
    assert main(["verify", str(run.folder)]) == 2
    assert "eval.json: changed" in capsys.readouterr().err
    (run.folder / "seal.json").unlink()
    Run.open(run.folder, notes.append)
    assert "is not sealed" in notes[-1]


def test_a_failed_proof_leaves_the_run_unsealed_and_says_so(made, monkeypatch):
    class Failed:
        returncode, stderr = 2, "error: the adapter does not give the predictions"

    monkeypatch.setattr(subprocess, "run", lambda *arguments, **named: Failed)
    notes: list[str] = []
    sealing.seal_run(RunFolder(made[0]), made[1], [], notes.append)
    assert "not sealed" in notes[0]
    assert "does not give the predictions" in notes[0]
    assert not (made[0] / sealing.INPUT).exists()
