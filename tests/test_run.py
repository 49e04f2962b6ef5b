"""An opened run gives what its training reported, exactly; what was changed since is refused."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_runs import files, lines, rows, small_run, write_csv

from lightune.errors import AdapterError, LightuneError, RunError
from lightune.run import Run

EVALUATED = ("metrics", "records", "baselines", "tables")

FRESH = """
import json, sys
from pathlib import Path
from lightune.run import Run
run, test = Run.open(sys.argv[1]), sys.argv[2]
print(json.dumps([run.evaluate(test), run.predict(Path(test))]))
"""


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Return a training and a test file; the test file fills several batches of all widths."""
    there = tmp_path_factory.mktemp("tables")
    table = rows("multi-class", 140)
    return write_csv(there / "train.csv", table[:60]), write_csv(there / "test.csv", table[60:])


@pytest.fixture(scope="module")
def trained(tiny, tables, tmp_path_factory):
    """Return a function that trains once for each method and precision."""
    made = {}
    train, test = map(str, tables)

    def run(method="lora", precision="bf16"):
        if (method, precision) not in made:
            made[method, precision] = small_run(
                tmp_path_factory.mktemp("runs") / f"{method}-{precision}",
                tiny("bert"),
                method,
                data={"train": train, "test": test},
                learning_rate=1e-2,
                max_steps=8,
                precision=precision,
            )
        return made[method, precision]

    return run


def reported(run) -> dict:
    values = json.loads((run.folder / "eval.json").read_text())
    return {key: values[key] for key in EVALUATED}


def predictions(run) -> list[dict]:
    return lines(run.folder / "predictions.jsonl")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("method", ["lora", "full", "head"])
def test_scores_and_predictions_are_those_of_training(trained, tables, method, precision):
    run = trained(method, precision)
    opened = Run.open(run.folder)
    assert opened.evaluate(tables[1]) == reported(run)
    assert opened.evaluate() == reported(run)
    assert opened.predict(tables[1]) == predictions(run)
    different = {tuple(row["scores"].values()) for row in predictions(run)}
    assert len(different) > 40, "else equality would say little"
    assert len(predictions(run)) == 80


def test_a_fresh_process_gives_the_same(trained, tables):
    run = trained()
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(run.folder), str(tables[1])],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [reported(run), predictions(run)]


def test_records_held_out_from_a_file_are_found_again(tiny, tables, tmp_path):
    run = small_run(tmp_path / "run", tiny("bert"), data={"train": str(tables[0])}, seed=5)
    assert Run.open(run.folder).evaluate() == reported(run)
    assert reported(run)["records"] == 12


def test_every_form_of_texts_is_predicted_alike(trained, tables):
    run = Run.open(trained().folder)
    table = rows("multi-class", 140)[60:]
    texts = [row["text"] for row in table]
    expected = [row["scores"] for row in predictions(run)]
    assert [row["scores"] for row in run.predict(texts)] == expected
    assert [row["scores"] for row in run.predict(table)] == expected
    assert [row["scores"] for row in run.predict([{"text": t} for t in texts])] == expected
    assert run.predict_proba(texts).tolist() == [list(scores.values()) for scores in expected]
    # Labels that nobody knows are no obstacle to a prediction.
    strange = [row | {"label": "unheard of"} for row in table]
    assert [row["scores"] for row in run.predict(strange)] == expected
    assert run.predict([]) == []
    assert run.predict_proba([]).shape == (0, 3)
    [alone] = run.predict(texts[0])
    assert alone["scores"] == pytest.approx(expected[0], abs=0.02)


def test_a_limit_scores_the_first_records(trained, tables):
    run = Run.open(trained().folder)
    ten = run.evaluate(tables[1], limit=10)
    right = [row["label"] == row["prediction"] for row in predictions(run)]
    assert ten["records"] == 10
    assert ten["metrics"]["accuracy"]["value"] == pytest.approx(sum(right[:10]) / 10, abs=0.11)


def change_base(model: Path) -> None:
    file = model / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in sorted(tensors) if tensors[name].ndim == 2)
    tensors[name][0, 0] += 1e-3
    save_file(tensors, file, metadata={"format": "pt"})


def change_tokenizer(model: Path) -> None:
    file = model / "tokenizer.json"
    values = json.loads(file.read_text())
    one, other = list(values["model"]["vocab"])[-2:]
    vocabulary = values["model"]["vocab"]
    vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    file.write_text(json.dumps(values))


@pytest.mark.parametrize(
    ("change", "found"),
    [(change_base, "tensors [0-9a-f]{16}"), (change_tokenizer, "[0-9a-f]{16}")],
    ids=["weights", "tokenizer"],
)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_another_base_model_is_refused(tiny, tmp_path, method, change, found):
    model = tmp_path / "model"
    shutil.copytree(tiny("bert"), model)
    run = small_run(tmp_path / "run", model, method)
    assert Run.open(run.folder).predict("good")
    change(model)
    with pytest.raises(LightuneError) as caught:
        Run.open(run.folder).predict("good")
    old, new = re.findall(found, caught.value.found)[:2]
    assert old != new
    manifest = json.loads((run.adapter / "lightune.json").read_text())["base"]
    assert any(str(value).startswith(old.split()[-1]) for value in manifest.values())


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("adapter/adapter_model.safetensors", flip),
        ("adapter/adapter_model.safetensors", Path.unlink),
        ("adapter/adapter_config.json", flip),
        ("adapter/lightune.json", lambda file: file.write_text(file.read_text()[:-40])),
        ("adapter/lightune.json", Path.unlink),
        ("eval.json", Path.unlink),
        ("eval.json", lambda file: file.write_text("[]")),
        ("recipe.yaml", lambda file: file.write_text("task: [")),
        ("environment.json", lambda file: file.write_text("{")),
    ],
)
def test_damage_is_refused(trained, tmp_path, name, damage):
    run = tmp_path / "copy"
    shutil.copytree(trained().folder, run)
    assert Run.open(run).predict("good"), "a copy is a run"
    damage(run / name)
    with pytest.raises((AdapterError, RunError, LightuneError)) as caught:
        Run.open(run).predict("good")
    assert Path(name).name in str(caught.value)


@pytest.mark.parametrize("method", ["lora", "full", "head"])
def test_the_card_holds_the_figures(trained, method):
    run = trained(method)
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    summary = run.summary()
    for score in summary["metrics"].values():
        low, high = score["low"], score["high"]
        interval = f"{low:.4f} to {high:.4f}" if low is not None else ""
        assert f"| {score['value']:.4f} | {interval} |" in card
    majority = summary["baselines"]["majority_class"]["accuracy"]
    assert f"majority class alone reaches {majority:.4f}" in card
    assert f"{summary['trainable_parameters']:,} of {summary['total_parameters']:,}" in card
    assert "| train | 60 | neg 20, pos 20, so-so 20 |" in card
    assert f"| learning rate | {summary['learning_rate']} |" in card
    for picture in ("loss.png", "confusion_matrix.png"):
        assert f"]({picture})" in card
        assert (run.folder / picture).read_bytes().startswith(b"\x89PNG")
    assert ("PeftModel.from_pretrained" in card) is (method == "lora")
    assert str(run.folder.parent) not in card, "no folder of this machine"


def test_opening_changes_nothing(trained, tables):
    before = files(trained().folder)
    opened = Run.open(trained().folder)
    opened.evaluate(tables[1])
    opened.predict("good")
    assert files(trained().folder) == before


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own
def test_an_adapter_on_minilm_works_in_peft(minilm, tmp_path):
    """Peft loads the adapter onto the plain base model, and gives our logits."""
    peft = pytest.importorskip("peft")
    from transformers import AutoModelForSequenceClassification

    from lightune.engine.batches import collate
    from lightune.models.sources import resolve

    run = small_run(tmp_path / "run", minilm, learning_rate=1e-2, max_steps=2)
    predictor = Run.open(run.folder).predictor
    records = run.records([row["text"] for row in rows(count=8)])
    examples = predictor.encode(records)
    ours = predictor.logits(examples)

    base = AutoModelForSequenceClassification.from_pretrained(
        resolve(minilm).folder, num_labels=2, dtype=torch.float32
    )
    batch = collate(examples, predictor.tokenizer.pad_token_id, lambda rows, width: None)
    untuned = base.eval()(**batch.inputs).logits
    tuned = peft.PeftModel.from_pretrained(base, run.adapter).eval()
    with torch.no_grad():
        theirs = tuned(**batch.inputs).logits
    assert torch.allclose(ours, theirs, atol=1e-4)
    assert not torch.allclose(ours, untuned, atol=1e-2), "it has moved"
