"""Whole runs with only the last block trained: the cache leaves the result and the folder alone."""

import pytest
import torch
from small_runs import files, recipe, rows, weights

from lightune import pipeline
from lightune.run import Run

METHOD = {"name": "lora", "layers": "last-1"}


def train(out, model, cache, note=lambda text: None, **changes):
    engine = {"threads": 1, "prefix_cache": cache}
    changes = {"max_steps": None, "epochs": 3, "learning_rate": 1e-2} | changes
    data = recipe(model, METHOD, engine=engine, **changes)
    return pipeline.train(data, out=out, progress="silent", note=note)


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    for name in ("loss_curve", "confusion_matrix"):
        monkeypatch.setattr(pipeline.plots, name, lambda *args: None)


@pytest.mark.parametrize("family", ["bert", "gpt2"])
def test_a_run_is_the_same_with_the_cache_and_without(tiny, tmp_path, family):
    runs, notes = {}, {"on": [], "off": []}
    for cache in notes:
        runs[cache] = train(tmp_path / cache, tiny(family), cache, notes[cache].append)
    for name, tensor in weights(runs["off"]).items():
        torch.testing.assert_close(weights(runs["on"])[name], tensor, rtol=1e-4, atol=1e-4)
    assert set(files(runs["on"].folder)) == set(files(runs["off"].folder))
    said = {cache: [n for n in lines if "frozen" in n] for cache, lines in notes.items()}
    assert said["off"] == []
    assert len(said["on"]) == 1
    assert "frozen: the first 1 of 2 blocks" in said["on"][0]

    texts = [row["text"] for row in rows()[:6]]
    again = Run.open(runs["on"].folder)
    assert again.predict(texts) == runs["on"].predict(texts)


def test_one_pass_keeps_nothing(tiny, tmp_path):
    notes = []
    train(tmp_path / "run", tiny("bert"), "auto", notes.append, epochs=1)
    assert not [note for note in notes if "frozen" in note]
