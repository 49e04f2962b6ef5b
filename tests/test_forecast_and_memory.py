"""Forecast beside outcome, batches split to fit memory, and kept tokens, seen in finished runs."""

import pytest
import torch
from small_runs import rows, small_run, weights

from lightune import pipeline
from lightune.engine import token_cache
from lightune.pipeline import dry_run
from lightune.train import batch_fit


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They would take longer than so short a training."""
    for name in ("loss_curve", "confusion_matrix"):
        monkeypatch.setattr(pipeline.plots, name, lambda *args: None)


def test_a_run_keeps_its_forecast_unless_it_is_short(tiny, tmp_path, monkeypatch):
    short = small_run(tmp_path / "short", tiny("bert")).summary()
    assert short["forecast"] is None
    monkeypatch.setattr(pipeline, "FORECAST_FROM_STEPS", 1)
    run = small_run(tmp_path / "long", tiny("bert"))
    seen = run.summary()["forecast"]
    assert seen["steps"] == run.summary()["steps"]
    assert min(seen.values()) > 0
    assert {"seconds", "peak_memory_mb"} <= seen.keys() & run.summary().keys()
    plain = weights(small_run(tmp_path / "plain", tiny("bert")))
    assert all(torch.equal(plain[name], tensor) for name, tensor in weights(run).items())


@pytest.mark.parametrize(("room", "part"), [(1e6, None), (0.0, 1)])
def test_auto_is_written_out_and_the_result_is_that_of_16(tiny, tmp_path, monkeypatch, room, part):
    monkeypatch.setattr(batch_fit, "available_mb", lambda: room)
    monkeypatch.setattr(batch_fit, "fitting_rows", lambda measure, rows, mb: rows if mb else 1)
    engine = {"dropout": "off"}  # parts draw other dropout numbers than the whole
    auto = small_run(tmp_path / "auto", tiny("bert"), batch_size="auto", engine=engine)
    fixed = small_run(tmp_path / "fixed", tiny("bert"), batch_size=16, engine=engine)
    spec = auto.recipe.train
    assert (spec.batch_size, spec.engine.micro_batch) == (16, part)
    assert auto.summary()["steps"] == fixed.summary()["steps"]
    for name, tensor in weights(fixed).items():
        torch.testing.assert_close(weights(auto)[name], tensor, rtol=1e-3, atol=1e-4)


def test_kept_tokens_train_the_same(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(token_cache, "MIN_SECONDS", 0.0)
    made, reads = {}, []
    read = token_cache._read
    monkeypatch.setattr(token_cache, "_read", lambda *a: reads.append(read(*a)) or reads[-1])
    for name, switch in (("off", "off"), ("first", "auto"), ("again", "auto")):
        made[name] = small_run(tmp_path / name, tiny("bert"), engine={"token_cache": switch})
    files = list((tmp_path / "home" / "tokens").iterdir())
    assert len(files) == 2, "train and test"
    assert [seen is None for seen in reads] == [True, True, False, False]
    for name in ("first", "again"):
        same = weights(made["off"])
        assert all(torch.equal(same[key], t) for key, t in weights(made[name]).items())
        assert made[name].metrics == made["off"].metrics


def test_a_dry_run_foresees_all_parts(tiny):
    plan = dry_run(
        {"task": "classification", "model": str(tiny("bert")), "method": "lora"},
        overrides={"data.train": rows(), "train.max_steps": 3},
    )
    assert plan["forecast"].keys() == {"steps", "seconds", "test_seconds", "peak_memory_mb"}
    assert min(plan["forecast"].values()) > 0
