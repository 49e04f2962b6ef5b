"""What both peers share: base model, examples, LoRA, counts, the score of an adapter.

Why:     Trainer (`peer_trainer.py`) and TRL (`peer_trl.py`) must differ in nothing but themselves.
Weights: `float32`, or `bfloat16`: frozen weights cast once, trained ones kept in float32. The
         second is faster where it works, so a peer at its best may choose it.
Not here: Lightune's side (`side_lightune.py`).
"""

import csv
import json
import re
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)

Job = dict[str, Any]
Rows = list[dict[str, Any]]


def read(path: str) -> Rows:
    """Return the rows of a CSV or JSON-lines file."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        if path.endswith(".jsonl"):
            return [json.loads(line) for line in file]
        return list(csv.DictReader(file))


def tokenizer_of(job: Job):
    return AutoTokenizer.from_pretrained(job["folder"])


def classification(job: Job, tokenizer, rows: Rows, names: list[str], pad: bool) -> Rows:
    """Return token ids and class numbers; `pad` fills up to the plain peer's fixed length."""
    length = job["pad"] if pad else job["max_length"]
    encoded = tokenizer(
        [row["text"] for row in rows],
        truncation=True,
        max_length=length,
        padding="max_length" if pad else False,
    )
    keys = list(encoded)
    return [
        {key: encoded[key][i] for key in keys} | {"labels": names.index(row["label"])}
        for i, row in enumerate(rows)
    ]


def instructions(job: Job, tokenizer, rows: Rows) -> Rows:
    """Return token ids in the model's chat form, with labels on the answer and its end only."""
    examples = []
    for row in rows:
        asked = [{"role": "user", "content": row["question"]}]
        answered = [*asked, {"role": "assistant", "content": row["answer"]}]
        prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        text = tokenizer.apply_chat_template(answered, tokenize=False).rstrip("\n")
        if not text.startswith(prompt):
            raise SystemExit("the chat template writes a prompt differently with its answer")
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][: job["max_length"]]
        labels = [-100] * start + ids[start:]
        examples.append({"input_ids": ids, "labels": labels[: len(ids)]})
    return examples


def base_model(job: Job, attention: str, weights: str, labels: int = 0):
    """Load the base; `labels` classes give it a classification head."""
    kind = AutoModelForSequenceClassification if labels else AutoModelForCausalLM
    more: dict[str, Any] = {"num_labels": labels} if labels else {}
    more |= {"attn_implementation": attention, "dtype": getattr(torch, weights)}
    return kind.from_pretrained(job["folder"], **more)


def lora_config(job: Job, model: nn.Module) -> LoraConfig:
    """Return PEFT's settings: all linear layers, or those of the upper blocks."""
    targets: str | list[str] = "all-linear"
    if job["first_block"] is not None:
        targets = [
            path
            for path, module in model.named_modules()
            if isinstance(module, nn.Linear) and (_block(path) or -1) >= job["first_block"]
        ]
    kind = "SEQ_CLS" if job["task"] == "classification" else "CAUSAL_LM"
    return LoraConfig(
        task_type=kind, r=job["rank"], lora_alpha=job["alpha"], target_modules=targets
    )


def with_lora(job: Job, model: nn.Module) -> nn.Module:
    """Add LoRA; what is trained is float32 whatever the frozen weights are."""
    model = get_peft_model(model, lora_config(job, model))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def _block(path: str) -> int | None:
    """Return the number of the block a module is in, the first number in its path."""
    found = re.search(r"\.(\d+)\.", path)
    return int(found[1]) if found else None


def linear_weights(folder: str, first_block: int | None) -> tuple[int, int]:
    """Return the weights of linear layers in the blocks, and of those from `first_block` up."""
    with torch.device("meta"):
        model = AutoModel.from_config(AutoConfig.from_pretrained(folder))
    blocks = max((m for m in model.modules() if isinstance(m, nn.ModuleList)), key=len)
    sizes = [
        sum(m.weight.numel() for m in block.modules() if isinstance(m, nn.Linear))
        for block in blocks
    ]
    return sum(sizes), sum(sizes[first_block or 0 :])


def counts(examples: Rows) -> dict[str, int]:
    """Return real tokens, the longest example's, and those a language model learns to write."""
    masks = [e.get("attention_mask") for e in examples]
    lengths = [
        sum(mask) if mask else len(e["input_ids"]) for e, mask in zip(examples, masks, strict=True)
    ]
    found = {"tokens": sum(lengths), "longest": max(lengths)}
    if isinstance(examples[0]["labels"], list):
        found["labelled"] = sum(label != -100 for e in examples for label in e["labels"])
    return found


def trainable(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@torch.no_grad()
def answer_loss(model: nn.Module, examples: Rows) -> float:
    """Return the mean loss per labelled token, in nats, one example at a time."""
    model.eval()
    loss, count = 0.0, 0
    for example in examples:
        ids, labels = (torch.tensor([example[key]]) for key in ("input_ids", "labels"))
        logits = model(input_ids=ids).logits[:, :-1].float()
        loss += nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        ).item()
        count += int((labels[:, 1:] != -100).sum())
    return loss / count


def adapter_loss(job: Job, adapter: Path) -> float:
    """Return `answer_loss` of a PEFT adapter folder on the test rows, in float32."""
    tokenizer = tokenizer_of(job)
    model = PeftModel.from_pretrained(base_model(job, "sdpa", "float32"), str(adapter))
    return answer_loss(model, instructions(job, tokenizer, read(job["test"])))
