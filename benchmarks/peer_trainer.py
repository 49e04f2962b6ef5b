"""The peer: Hugging Face Trainer with PEFT, in one process, printing one JSON line.

    plain   what the usual script does: float32, padded to a fixed 128 tokens
    best    bfloat16 autocast, grouped by length, dynamic padding to a multiple of 8, and the
            faster of PyTorch's fused (`--attention sdpa`) and plain (`eager`) attention

Same base weights, rows, LoRA settings, batch size, epochs, schedule and dropout as Lightune's side
of the comparison (bench_training.py). The time is that of `trainer.train()` alone; the score is
taken afterwards.
"""

import argparse
import csv
import json
import resource
import time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)


def rows(path: Path, limit: int | None = None) -> tuple[list[str], list[str]]:
    """Return texts and labels of a CSV file with the columns `text` and `label`."""
    with path.open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))[:limit]
    return [row["text"] for row in read], [row["label"] for row in read]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, help="folder of the base model")
    parser.add_argument("--train", type=Path, required=True)
    parser.add_argument("--test", type=Path, required=True)
    parser.add_argument("--kind", choices=["plain", "best"], required=True)
    parser.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa")
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument("--targets", nargs="+", default=["query", "value"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", required=True, help="folder that Trainer may write to")
    options = parser.parse_args()

    set_seed(options.seed)
    texts, labels = rows(options.train)
    names = sorted(set(labels))
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model, num_labels=len(names), attn_implementation=options.attention
    )
    targets = "all-linear" if options.targets == ["all-linear"] else options.targets
    config = LoraConfig(task_type="SEQ_CLS", r=8, lora_alpha=16, target_modules=targets)
    model = get_peft_model(model, config)
    best = options.kind == "best"

    def encode(texts: list[str], labels: list[str]) -> Dataset:
        padding = False if best else "max_length"
        encoded = tokenizer(texts, truncation=True, max_length=options.max_length, padding=padding)
        return Dataset.from_dict({**encoded, "label": [names.index(label) for label in labels]})

    test_texts, test_labels = rows(options.test)
    train, test = encode(texts, labels), encode(test_texts, test_labels)
    arguments = TrainingArguments(
        output_dir=options.work,
        num_train_epochs=options.epochs,
        max_steps=options.max_steps,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=32,
        learning_rate=options.learning_rate,
        warmup_steps=0.06,
        weight_decay=0.01,
        lr_scheduler_type="linear",
        optim="adamw_torch_fused",
        bf16=best,
        use_cpu=True,
        train_sampling_strategy="group_by_length" if best else "random",
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=options.seed,
    )
    trainer = Trainer(
        model,
        arguments,
        train_dataset=train,
        eval_dataset=test,
        data_collator=DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8 if best else None),
        compute_metrics=lambda p: {"accuracy": float(np.mean(p[0].argmax(-1) == p[1]))},
    )
    begun = time.perf_counter()
    state = trainer.train()
    seconds = time.perf_counter() - begun
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    score = trainer.evaluate()["eval_accuracy"]
    shown = state.global_step * options.batch_size
    result = {
        "side": f"Trainer + PEFT, {options.kind}" + (f", {options.attention}" if best else ""),
        "seconds": seconds,
        "examples_per_s": shown / seconds,
        "accuracy": score,
        "peak_memory_mb": peak_mb,
        "steps": state.global_step,
        "seed": options.seed,
        "torch": torch.__version__,
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
