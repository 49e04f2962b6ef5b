"""The plan follows the measurements, is kept per machine, and can be overridden."""

import json

import pytest
import torch

from lightune.engine import plan as plans
from lightune.engine.plan import Plan, machine_plan, probes
from lightune.engine.spec import EngineSpec
from lightune.errors import ConfigError
from lightune.nn import native as loading


def machine(**faster: float):
    """Return a `measure` in which every probe takes 1 s, but those whose words all match less."""

    def measure(probe: str) -> float:
        seconds = 1.0
        for words, value in faster.items():
            if all(word in probe.split() for word in words.split("_")):
                seconds = value
        return seconds

    return measure


MACHINES = {
    "avx512_bf16: fast products, slow fused attention": (
        machine(product_bfloat16=0.25, plain_bfloat16=0.3, fused_float32=0.5),
        ("bfloat16", "lightune"),
    ),
    "avx2, no bf16 units": (machine(product_bfloat16=5.0, fused=0.5), ("float32", "sdpa")),
    "bf16 hardly faster": (machine(product_bfloat16=0.9, fused=0.5), ("float32", "sdpa")),
    "amx: bf16 fast everywhere": (
        machine(product_bfloat16=0.1, fused_bfloat16=0.1),
        ("bfloat16", "sdpa"),
    ),
    "kernels in C that are fastest": (
        machine(product_bfloat16=0.25, plain_bfloat16=0.3, native=0.2),
        ("bfloat16", "lightune_native"),
    ),
    "kernels in C, where bf16 does not pay": (
        machine(product_bfloat16=0.9, fused=0.5, native=0.2),
        ("float32", "sdpa"),
    ),
}


@pytest.mark.parametrize("name", MACHINES)
def test_takes_what_was_measured_fastest(name):
    measure, expected = MACHINES[name]
    kernels = "in C" in name
    plan = machine_plan(device="cpu", measure=measure, kernels=kernels)
    assert (plan.dtype, plan.attention) == expected
    assert plan.native is (kernels and plan.dtype == "bfloat16")
    assert plan.dropout == "pooled"
    assert set(plan.measured) == set(probes(kernels))


@pytest.mark.parametrize(
    ("device", "bf16", "expected"),
    [("cuda", True, "bfloat16"), ("cuda", False, "float16"), ("mps", False, "float32")],
)
def test_a_gpu_is_not_measured(device, bf16, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: bf16)
    plan = machine_plan(device=device, measure=machine())
    assert (plan.device, plan.dtype, plan.attention) == (device, expected, "sdpa")
    assert plan.dropout == "torch"
    assert plan.measured == {}


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(1, 0, "cuda"), (0, 1, "mps"), (0, 0, "cpu")]
)
def test_the_first_device_there_is_taken(cuda, mps, expected, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(cuda))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: bool(mps))
    assert plans.default_device() == expected


def test_the_recipe_overrides():
    spec = EngineSpec(attention="sdpa", dropout="torch", threads=1, lowrank=False)
    slow_bf16 = machine(product_bfloat16=9.0)
    plan = machine_plan("bf16", spec, device="cpu", measure=slow_bf16, kernels=True)
    assert plan.model_dump(exclude={"measured"}) == {
        "device": "cpu",
        "dtype": "bfloat16",
        "attention": "sdpa",
        "dropout": "torch",
        "lowrank": False,
        "native": True,
        "threads": 1,
    }


def test_native_attention_is_refused_where_there_is_none():
    with pytest.raises(ConfigError, match="no native attention here"):
        machine_plan("bf16", EngineSpec(attention="native"), device="cpu", kernels=False)


def test_kernels_are_not_built_when_switched_off(tmp_path):
    plan = machine_plan(engine=EngineSpec(native="off"), device="cpu", cache=tmp_path)
    assert not plan.native
    assert not list(tmp_path.glob("kernels-*"))


def test_fp16_on_a_cpu_is_refused():
    with pytest.raises(ConfigError, match="fp16 needs a CUDA GPU"):
        machine_plan("fp16", device="cpu", measure=machine())


def test_measured_once_and_kept(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(plans, "measure_here", lambda probe: calls.append(probe) or 1.0)
    first = machine_plan(device="cpu", cache=tmp_path)
    second = machine_plan(device="cpu", cache=tmp_path)
    assert first == second
    assert tuple(calls) == probes(first.native or "native bfloat16 32" in calls)


@pytest.mark.parametrize("damage", ["{", "[]", '{"product float32": 1}', None])
def test_damaged_measurements_are_taken_again(damage, tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "measure_here", lambda probe: 1.0)
    machine_plan(device="cpu", cache=tmp_path)
    (file,) = tmp_path.glob("plan-*.json")
    names = json.loads(file.read_text())
    file.write_text(damage or json.dumps(dict.fromkeys(names, -1.0)))
    assert machine_plan(device="cpu", cache=tmp_path) == machine_plan(device="cpu", cache=tmp_path)
    assert json.loads(file.read_text()) == dict.fromkeys(names, 1.0)


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    monkeypatch.setattr(plans, "measure_here", lambda probe: 1.0)
    (tmp_path / "file").touch()
    assert machine_plan(device="cpu", cache=tmp_path / "file").dtype == "float32"


def test_every_probe_runs_here(tmp_path):
    native = loading.load(tmp_path) is not None
    assert all(plans.measure_here(probe) > 0 for probe in probes(native))


def test_the_plan_is_json():
    plan = machine_plan(device="cpu", measure=machine())
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
