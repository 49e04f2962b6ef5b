"""Lightune's side of a benchmark: one training in one process, printing one JSON line.

The time is that of the training loop as the run itself records it. A training of a few steps before
it, in the same process, warms up what is warmed up but once (as the peers do). Language models are
scored from the saved adapter by the very code that scores the peers'.

Run:  benchmarks/side_lightune.py '{…}'   (a job of `workloads.py`, with `out` and `changes`, a list
      of KEY=VALUE for the recipe)
"""

import json
import sys
from pathlib import Path
from typing import Any

import gemm


def recipe(job: dict[str, Any]) -> dict[str, Any]:
    """Return the recipe that says what the job says."""
    method: dict[str, Any] = {"name": "lora", "rank": job["rank"], "alpha": job["alpha"]}
    if job["first_block"] is not None:
        config = json.loads((Path(job["folder"]) / "config.json").read_text())
        method["layers"] = list(range(job["first_block"], config["num_hidden_layers"]))
    task: Any = "classification"
    test = job["test"]
    if job["task"] == "instruct":  # scored from the adapter: what the run writes is not looked at
        test = job["few"]
        task = {"name": "instruct", "prompt": "question", "answer": "answer"}
    return {
        "task": task,
        "model": job["folder"],
        "method": method,
        "data": {"train": job["train"], "test": test, "overlap": "allow"},
        "train": {
            "epochs": job["epochs"],
            "batch_size": job["batch"],
            "learning_rate": job["rate"],
            "max_length": job["max_length"],
            "seed": job["seed"],
        },
    }


def main() -> None:
    import lightune

    job = json.loads(sys.argv[1])
    out, changes = Path(job["out"]), job.get("changes", [])
    quiet: dict[str, Any] = {"progress": "silent"}
    if job["warm"]:
        short = [*changes, f"train.max_steps={job['warm']}"]
        lightune.train(recipe(job), out=out / "warm", overrides=short, **quiet)
    run = lightune.train(recipe(job), out=out / "run", overrides=changes, **quiet)
    print(json.dumps(measured(job, run)), flush=True)


def measured(job: dict[str, Any], run: Any) -> dict[str, Any]:
    """Return what every side reports."""
    import peer_parts as parts

    from lightune.train.memory import peak_rss_mb

    peak = peak_rss_mb()
    summary = run.summary()
    report = json.loads((run.folder / "data_report.json").read_text())["splits"]["train"]
    linear, adapted = parts.linear_weights(job["folder"], job["first_block"])
    result = {
        "seconds": summary["seconds"],
        "steps": summary["steps"],
        "examples": report["rows"] * job["epochs"],
        "examples_per_epoch": report["rows"],
        **parts.counts(_examples(job)),
        "longest": min(report["tokens"]["max"], report["tokens"]["max_length"]),
        "peak_memory_mb": peak,
        "trainable_parameters": summary["trainable_parameters"],
        "linear": linear,
        "adapted": adapted,
        "ceiling_gflops": gemm.ceiling(),
        "plan": json.loads((run.folder / "environment.json").read_text())["plan"],
    }
    if job["score"] and job["task"] == "classification":
        result["score"] = summary["metrics"]["accuracy"]["value"]
    elif job["score"]:
        result["score"] = parts.adapter_loss(job, run.adapter)
    return result


def _examples(job: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the examples as the peers make them: the real tokens are counted alike."""
    import peer_parts as parts

    rows, tokenizer = parts.read(job["train"]), parts.tokenizer_of(job)
    if job["task"] == "instruct":
        return parts.instructions(job, tokenizer, rows)
    names = sorted({row["label"] for row in rows})
    return parts.classification(job, tokenizer, rows, names, pad=False)


if __name__ == "__main__":
    main()
