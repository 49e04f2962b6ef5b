"""Where the time of Lightune's training steps goes, by kind of arithmetic.

Method:  some steps of a workload's speed run under PyTorch's profiler, after a warm-up; the time
         that each operator takes itself is added up by group. What the operators leave of the wall
         time is Python, the autograd engine and waiting. The profiler slows small operators down,
         so that the shares lean towards many small ones.
Resume:  rows are appended to benchmarks/results/profile.jsonl, and are not run again.
Run:     .venv/bin/python benchmarks/profile_steps.py [--only WORKLOAD] [--steps 20]
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import result_rows
import side_lightune
import workloads

RESULTS = result_rows.RESULTS / "profile.jsonl"
STEPS = 20
GROUPS = {
    "matrix products": ("mm", "addmm", "bmm", "baddbmm", "matmul", "linear", "mkldnn", "addmv"),
    "softmax and attention": ("softmax", "scaled_dot_product", "flash_attention"),
    "normalisation": ("layer_norm", "rms_norm", "rsqrt"),
    "activation": ("gelu", "silu", "tanh", "relu", "sigmoid", "exp"),
    "dropout and random numbers": ("dropout", "bernoulli", "random", "uniform", "rand"),
    "loss": ("nll_loss", "cross_entropy", "logsumexp", "gather"),
    "optimiser and clipping": ("adam", "foreach", "vector_norm", "linalg"),
    "copies and casts": ("copy", "to", "contiguous", "clone", "cat", "stack", "fill", "zero"),
    "sums and products by element": ("add", "mul", "sub", "div", "sum", "mean", "pow", "neg"),
    "look-up": ("embedding", "index"),
}
"""Group -> beginnings or ends of the operators' names; the first group that fits takes one."""


def group_of(operator: str) -> str:
    """Return the group of an operator such as `aten::_softmax_backward_data`."""
    if "autograd::" in operator or not operator.startswith(("aten::", "mkldnn")):
        return "autograd and the engine's own layers (Python)"
    name = operator.rpartition("::")[2].strip("_").replace("_backward_data", "")
    plain = name.removesuffix("_backward")
    for group, names in GROUPS.items():
        if any(plain == n or (len(n) > 3 and n in plain) for n in names):
            return group
    return "other operators"


def grouped(times: Iterable[tuple[str, float]], wall: float) -> dict[str, float]:
    """Return seconds by group, largest first, and what is left of the wall time."""
    sums: dict[str, float] = {}
    for operator, seconds in times:
        group = group_of(operator)
        sums[group] = sums.get(group, 0.0) + seconds
    sums["outside of operators (Python, waiting)"] = max(0.0, wall - sum(sums.values()))
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def run(key: dict[str, Any], work: Path) -> dict[str, Any]:
    """Profile one workload."""
    import torch

    from lightune.assembly import assemble
    from lightune.recipe import load_recipe
    from lightune.train.loop import fit

    load = workloads.BY_NAME[key["workload"]]
    settings = side_lightune.recipe(workloads.job(load, "speed", False, 0, work))

    def prepared(steps: int) -> Callable[[], object]:
        short = load_recipe(settings, {"train.max_steps": steps, "train.epochs": None})
        job = assemble(short, lambda note: None)
        more = {"groups": job.groups(), "masters": job.predictor.prepared.pairs}
        return lambda: fit(**job.loop_arguments(), **more)

    prepared(workloads.WARM_STEPS)()
    train = prepared(key["steps"])
    begun = time.perf_counter()
    train()
    bare = time.perf_counter() - begun
    train = prepared(key["steps"])
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu) as profile, torch.profiler.record_function("fit"):
        train()
    wall, times = inside(profile.events(), "fit")
    return {"seconds": bare, "profiled_seconds": wall, "groups": grouped(times, wall)}


def inside(events: Iterable[Any], name: str) -> tuple[float, list[tuple[str, float]]]:
    """Return the seconds of the named range, and operator and own seconds of what ran in it."""
    every = list(events)
    span = next(event.time_range for event in every if event.name == name)
    times = [
        (event.name, event.self_cpu_time_total / 1e6)
        for event in every
        if event.name != name and span.start <= event.time_range.start < span.end
    ]
    return (span.end - span.start) / 1e6, times


def wanted(steps: int = STEPS) -> list[dict[str, Any]]:
    """Return the keys of all rows."""
    return [{"workload": name, "steps": steps} for name in workloads.BY_NAME]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*workloads.BY_NAME])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "lightune-bench")
    options = parser.parse_args()
    keys = [k for k in wanted(options.steps) if options.only in (None, k["workload"])]
    for reason in filter(None, (workloads.missing(workloads.BY_NAME[k["workload"]]) for k in keys)):
        print(f"skipped: {reason}")
    keys = [k for k in keys if not workloads.missing(workloads.BY_NAME[k["workload"]])]
    result_rows.fill(options.results, keys, lambda key: run(key, options.work))


if __name__ == "__main__":
    main()
