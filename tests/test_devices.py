"""The GPU's branches of a whole training and of opening its run, on a machine without one."""

import json

import pytest
import torch
from small_runs import rows, small_run, write_csv

from lightune import pipeline
from lightune.run import Run


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """They would take longer than so short a training."""
    for name in ("loss_curve", "confusion_matrix"):
        monkeypatch.setattr(pipeline.plots, name, lambda *args: None)


@pytest.fixture
def gpu(monkeypatch):
    """Let this machine seem to have a GPU; return the addresses of what was moved to it.

    What is moved to `cuda` is noted and stays where it is; the device's random state is the CPU's.
    """
    moved = set()
    really = torch.Tensor.to

    def to(tensor, *args, **options):
        wanted = [str(value) for value in (*args, options.get("device"))]
        if "cuda" not in wanted:
            return really(tensor, *args, **options)
        here = ["cpu" if str(value) == "cuda" else value for value in args]
        there = really(
            tensor, *here, **options | ({"device": "cpu"} if "device" in options else {})
        )
        moved.add(there.data_ptr())
        return there

    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Imaginary 9000")
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: torch.get_rng_state())
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: None)
    return moved


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_gpu_gets_every_tensor(tiny, tmp_path, monkeypatch, gpu, method):
    """The optimiser's float32 masters too, which are no part of the model."""
    fitted, really = [], pipeline.fit

    def fit(model, *args, trainable, masters, **options):
        assert bool(masters) is (method == "full")
        for tensor in (*trainable.values(), *(m for m, _ in masters), *model.parameters()):
            assert tensor.data_ptr() in gpu
        fitted.append(really(model, *args, trainable=trainable, masters=masters, **options))
        return fitted[-1]

    def check_inputs(module, args, inputs):
        for name in ("input_ids", "attention_mask"):
            assert inputs[name].data_ptr() in gpu

    def assemble(*args):
        job = really_assemble(*args)
        job.base.model.register_forward_pre_hook(check_inputs, with_kwargs=True)
        return job

    really_assemble = pipeline.assemble
    monkeypatch.setattr(pipeline, "assemble", assemble)
    monkeypatch.setattr(pipeline, "fit", fit)
    run = small_run(tmp_path / "run", tiny("bert"), method, precision="auto")
    assert fitted[0].steps == 2
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["gpu"] == "Imaginary 9000"
    assert environment["plan"]["device"] == "cuda"
    assert environment["plan"]["dtype"] == "bfloat16"


def test_a_run_from_a_gpu_opens_without_one(tiny, tmp_path, monkeypatch, gpu):
    table = write_csv(tmp_path / "rows.csv", rows())
    run = small_run(tmp_path / "run", tiny("bert"), data=str(table))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    gpu.clear()
    notes = []
    again = Run.open(run.folder, note=notes.append).evaluate()["metrics"]
    assert again["accuracy"]["value"] == pytest.approx(run.metrics["accuracy"]["value"], abs=0.13)
    assert any("used cuda, which is not here" in note for note in notes)
    assert gpu == set()
