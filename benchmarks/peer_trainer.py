"""A peer: Hugging Face Trainer with PEFT, in one process, printing one JSON line.

    plain   what the usual script does: float32, random order, padded to a fixed length
    best    bfloat16 autocast, grouped by length, padded to a multiple of 8; attention and format
            of the frozen weights as told, the benchmark takes what is fastest

Same base weights, rows, LoRA, batch size, epochs, schedule and dropout as Lightune's side. The time
is that of `trainer.train()`; a short training of its own before it warms the process up.

Run:  benchmarks/peer_trainer.py '{…}'   (a job of `workloads.py`, with `kind`, `attention`,
      `weights` and `out`)
"""

import json
import sys
import time
from typing import Any

import gemm
import numpy as np
import peer_parts as parts
from datasets import Dataset
from transformers import (
    DataCollatorForSeq2Seq,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

from lightune.train.memory import peak_rss_mb


def arguments(job: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return what Trainer and TRL's trainer are both told."""
    best = job["kind"] == "best"
    return {
        "output_dir": job["out"],
        "num_train_epochs": job["epochs"],
        "per_device_train_batch_size": job["batch"],
        "per_device_eval_batch_size": 32,
        "learning_rate": job["rate"],
        "warmup_steps": 0.06,
        "weight_decay": 0.01,
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch_fused",
        "bf16": best,
        "use_cpu": True,
        "train_sampling_strategy": "group_by_length" if best else "random",
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": job["seed"],
        **more,
    }


def timed(make: Any, job: dict[str, Any]) -> tuple[Any, float, int]:
    """Warm up, then train; return the trainer, its seconds and its steps.

    Args:
        make: function of Trainer's further arguments that returns a trainer.
    """
    if job["warm"]:
        make(max_steps=job["warm"]).train()
    trainer = make()
    begun = time.perf_counter()
    steps = trainer.train().global_step
    return trainer, time.perf_counter() - begun, steps


def result(job: dict[str, Any], model: Any, train: Any, seconds: float, steps: int) -> dict:
    """Return what every side reports, its peak memory and the machine's ceiling among it."""
    peak = peak_rss_mb()
    linear, adapted = parts.linear_weights(job["folder"], job["first_block"])
    return {
        "seconds": seconds,
        "steps": steps,
        "examples": len(train) * job["epochs"],
        "examples_per_epoch": len(train),
        **parts.counts(train),
        "peak_memory_mb": peak,
        "trainable_parameters": parts.trainable(model),
        "linear": linear,
        "adapted": adapted,
        "ceiling_gflops": gemm.ceiling(),
    }


def main() -> None:
    job = json.loads(sys.argv[1])
    best = job["kind"] == "best"
    set_seed(job["seed"])
    tokenizer = parts.tokenizer_of(job)
    rows, test_rows = parts.read(job["train"]), parts.read(job["test"])
    if job["task"] == "classification":
        names = sorted({row["label"] for row in rows})
        train, test = (
            parts.classification(job, tokenizer, r, names, not best) for r in (rows, test_rows)
        )
        model = parts.base_model(job, job["attention"], job["weights"], len(names))
        collate = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8 if best else None)
    else:
        train, test = (parts.instructions(job, tokenizer, r) for r in (rows, test_rows))
        model = parts.base_model(job, job["attention"], job["weights"])
        padding = {"pad_to_multiple_of": 8} if best else {"max_length": job["pad"]}
        collate = DataCollatorForSeq2Seq(
            tokenizer, padding=True if best else "max_length", **padding
        )
    model = parts.with_lora(job, model)

    def make(**more: Any) -> Trainer:
        return Trainer(
            model,
            TrainingArguments(**arguments(job, **more)),
            train_dataset=Dataset.from_list(train),
            eval_dataset=Dataset.from_list(test),
            data_collator=collate,
            compute_metrics=_accuracy if job["task"] == "classification" else None,
        )

    trainer, seconds, steps = timed(make, job)
    out = result(job, model, train, seconds, steps)
    if job["score"]:
        if job["task"] == "classification":
            out["score"] = trainer.evaluate()["eval_accuracy"]
        else:
            model.save_pretrained(job["out"] + "/adapter")
            out["score"] = parts.adapter_loss(job, job["out"] + "/adapter")
    print(json.dumps(out), flush=True)


def _accuracy(predicted: Any) -> dict[str, float]:
    return {"accuracy": float(np.mean(predicted[0].argmax(-1) == predicted[1]))}


if __name__ == "__main__":
    main()
