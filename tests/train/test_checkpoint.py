"""Checkpoints: written and read back bit for bit, and no damage goes unseen."""

import errno
import json
import math
import os
import random
import shutil

import pytest
import torch
from safetensors.torch import load_file

from lightune.errors import RunError
from lightune.train import checkpoint, saver
from lightune.train.state import Best, LoopState
from lightune.train.tensor_file import DTYPES, write_tensors
from tests.train.training import Training, examples_of, same, tiny


def a_state(step: int = 7) -> LoopState:
    torch.manual_seed(step)
    weights = {"a.b": torch.randn(3, 5), "c": torch.randn(4)}
    moments = {
        path: {"step": torch.tensor(7.0), "exp_avg": w + 1, "exp_avg_sq": w * w}
        for path, w in weights.items()
    }
    best = Best(
        5, -math.inf, {"f1": math.nan, "accuracy": 1 / 3}, {p: -w for p, w in weights.items()}
    )
    return LoopState(
        step, 1, 2, 3, 4, best, weights, moments, {"scale": 2.0**15, "_growth_tracker": 3}
    )


def written(parent, step: int = 7):
    return checkpoint.write(parent / "checkpoints", a_state(step), {"recipe": "x", "π": 1 / 3})


def test_what_is_written_is_read_bit_for_bit(tmp_path):
    folder, state = written(tmp_path), a_state()
    found = checkpoint.read(folder)
    assert found.facts == {"recipe": "x", "π": 1 / 3}
    assert same(found.state.weights, state.weights)
    assert found.state.moments.keys() == state.moments.keys()
    assert all(same(found.state.moments[p], state.moments[p]) for p in state.moments)
    assert same(found.state.best.weights, state.best.weights)
    assert (found.state.best.step, found.state.best.value) == (5, -math.inf)
    assert found.state.best.metrics["accuracy"] == 1 / 3
    assert math.isnan(found.state.best.metrics["f1"])
    assert found.state.loss_scale == state.loss_scale
    for name in checkpoint.COUNTERS:
        assert getattr(found.state, name) == getattr(state, name)
    assert {p.suffix for p in folder.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_library_reads_what_we_write(tmp_path, dtype):
    tensors = {
        "scalar": torch.tensor(3).to(dtype),
        "none": torch.zeros(0, 4, dtype=dtype),
        "ünder": torch.arange(24).view(2, 3, 4).to(dtype),
        "turned": torch.arange(6).view(2, 3).to(dtype).T,
    }
    digest = write_tensors(tmp_path / "x.safetensors", tensors)
    read = load_file(tmp_path / "x.safetensors")
    assert same(read, tensors)
    assert (
        digest == checkpoint.hashlib.sha256((tmp_path / "x.safetensors").read_bytes()).hexdigest()
    )


# Damage.


def test_every_flipped_bit_and_every_truncation_is_seen(tmp_path):
    folder, chance = written(tmp_path), random.Random(0)
    files = sorted(folder.iterdir())
    for number in range(150):
        file = files[number % len(files)]
        content = file.read_bytes()
        if number % 3:
            damaged = bytearray(content)
            damaged[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        else:
            damaged = content[: chance.randrange(len(content))]
        file.write_bytes(damaged)
        with pytest.raises(RunError):
            checkpoint.read(folder)
        file.write_bytes(content)
    checkpoint.read(folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda f: (f / "moments.safetensors").unlink(), "missing: ['moments.safetensors']"),
        (lambda f: (f / "manifest.json").unlink(), "No such file"),
        (lambda f: (f / "state.json").unlink(), "missing: ['state.json']"),
        (lambda f: (f / "state.pkl").write_bytes(b"x"), "not of it: ['state.pkl']"),
        (lambda f: linked(f / "weights.safetensors"), "not a plain file"),
        (lambda f: relist(f, drop="best.safetensors"), "not of it: ['best.safetensors']"),
        (lambda f: relist(f, drop="weights.safetensors", unlink=True), "it lists"),
    ],
)
def test_what_is_missing_or_too_many_is_refused(tmp_path, damage, said):
    folder = written(tmp_path)
    damage(folder)
    with pytest.raises(RunError) as caught:
        checkpoint.read(folder)
    assert said in str(caught.value)


def linked(path):
    path.rename(path.parents[2] / "elsewhere")
    path.symlink_to(path.parents[2] / "elsewhere")


def relist(folder, drop, unlink=False):
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"][drop]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    if unlink:
        (folder / drop).unlink()


def test_a_damaged_one_is_set_aside_and_the_one_before_is_taken(tmp_path):
    parent, notes = tmp_path / "checkpoints", []
    for step in (3, 6):
        written(tmp_path, step)
    (parent / "step-000000006" / "weights.safetensors").write_bytes(b"x")
    found = checkpoint.latest(parent, notes.append)
    assert found.state.step == 3
    assert "weights.safetensors is damaged" in notes[0]
    assert "set aside as damaged-step-000000006" in notes[0]
    assert sorted(p.name for p in parent.iterdir()) == ["damaged-step-000000006", "step-000000003"]
    shutil.rmtree(parent / "step-000000003" / "")
    with pytest.raises(RunError, match="is whole"):
        checkpoint.latest(parent, notes.append)
    assert checkpoint.latest(tmp_path / "nowhere", notes.append) is None


def test_where_all_are_damaged_it_is_an_error(tmp_path):
    (written(tmp_path) / "moments.safetensors").unlink()
    for _ in range(2):
        with pytest.raises(RunError, match="is whole"):
            checkpoint.latest(tmp_path / "checkpoints", lambda text: None)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000000007"]


def test_a_copy_under_another_name_is_no_checkpoint(tmp_path):
    folder = written(tmp_path)
    copy = folder.with_name("step-000000007-old")
    shutil.copytree(folder, copy)
    assert checkpoint.folders(folder.parent) == [folder]
    with pytest.raises(RunError, match="it says step 7"):
        checkpoint.read(copy)


def test_tensors_of_another_training_are_refused(tmp_path):
    found = checkpoint.read(written(tmp_path))
    weights = {p: torch.nn.Parameter(w) for p, w in a_state().weights.items()}
    checkpoint.check_fits(found, weights)
    for wrong in (
        {**weights, "more": weights["c"]},
        {**weights, "c": torch.nn.Parameter(torch.ones(5))},
    ):
        with pytest.raises(RunError, match="1 tensors differ"):
            checkpoint.check_fits(found, wrong)


# Saving.


def test_the_last_two_are_kept_and_nothing_half(tmp_path):
    parent, notes = tmp_path / "checkpoints", []
    parent.mkdir()
    (parent / ".step-000000001.9.part").mkdir()
    keeper = saver.Saver(parent, 2, dict, notes.append)
    for step in range(1, 10):
        keeper.step(step, lambda copy, step=step: a_state(step))
    assert sorted(p.name for p in parent.iterdir()) == ["step-000000006", "step-000000008"]
    assert notes == []
    assert checkpoint.write(parent, a_state(8), {}).name == "step-000000008"


def test_saving_by_time(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(saver.time, "monotonic", lambda: now[0])
    keeper, saved = saver.Saver(tmp_path, "1.5 min", dict, print), []
    monkeypatch.setattr(saver, "write", lambda parent, state, facts: saved.append(state.step))
    for step, seconds in enumerate([10, 89, 90, 100, 179, 181, 1000], start=1):
        now[0] = seconds
        keeper.step(step, lambda copy, step=step: a_state(step))
    assert saved == [3, 6, 7]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_full_disk_ends_no_training_and_the_last_good_one_stays(tmp_path, monkeypatch, number):
    notes, full = [], [False]
    keeper = saver.Saver(tmp_path / "checkpoints", 1, dict, notes.append)
    real = os.fsync

    def fsync(handle):
        if full[0]:
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    for step in (1, 2, 3, 4):
        full[0] = step in (2, 3)
        keeper.step(step, lambda copy, step=step: a_state(step))
    assert len(notes) == 1
    assert "no checkpoint at step 2" in notes[0]
    assert "the last one is step-000000001" in notes[0]
    names = sorted(p.name for p in (tmp_path / "checkpoints").iterdir())
    assert names == ["step-000000001", "step-000000004"]


def test_a_training_goes_on_bit_for_bit_from_files(tmp_path):
    train = examples_of(16)
    scores = {"evaluation": {"every": 2, "early_stopping": 9}, "epochs": 3}

    def run(parent, every, resume=None):
        model = tiny(0.3)
        keeper = saver.Saver(tmp_path / parent, every, dict, print)
        value = lambda: {"macro_f1": -float(model.classifier.bias.detach().sum())}  # noqa: E731
        return Training(model, train, evaluate=value, on_step=keeper.step, resume=resume, **scores)

    plain = run("never", None)
    often = run("often", 1)
    assert same(plain.weights, often.weights)
    some = run("some", 5)
    assert same(plain.weights, some.weights)
    for folder in checkpoint.folders(tmp_path / "some"):
        after = run("after", None, resume=checkpoint.read(folder).state)
        assert same(after.weights, plain.weights)
        assert after.result.best.step == plain.result.best.step
        assert same(after.result.best.weights, plain.result.best.weights)
