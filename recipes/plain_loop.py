"""The whole of fine-tuning in one file: LoRA, the loop, AdamW, and nothing of Lightune.

Why:    `lightune.train.loop.fit` does what this script does, with more care for the user. Read
        this to know what happens; a test holds the losses of both equal, step by step.
Run:    .venv/bin/python recipes/plain_loop.py MODEL_FOLDER_OR_HUB_ID reviews.csv
        The CSV file has the columns `text` and `label`; every fifth row is held out as test.
"""

import csv
import math
import random
import sys

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

EPOCHS, BATCH, RATE, WARMUP, DECAY, MAX_NORM = 3, 16, 5e-4, 0.06, 0.01, 1.0
RANK, ALPHA, MAX_LENGTH, SEED = 8, 16, 128, 0


class LoRALinear(nn.Module):
    """h = W x + (alpha / rank) B A x; only A and B are trained (Hu et al. 2021)."""

    def __init__(self, base):
        super().__init__()
        self.base = base
        self.A = nn.Parameter(torch.empty(RANK, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, RANK))
        nn.init.kaiming_uniform_(self.A, a=5**0.5)

    def forward(self, x):  # [..., in] -> [..., out]
        return self.base(x) + ALPHA / RANK * (x @ self.A.T @ self.B.T)


def add_lora(model):
    """Freeze the model, put LoRA on every linear layer of its blocks; the new head is trained."""
    model.requires_grad_(False)
    for path, layer in list(model.named_modules()):
        if isinstance(layer, nn.Linear) and ".layer" in path:
            model.set_submodule(path, LoRALinear(layer))
    for path, weight in model.named_parameters():
        if "classifier" in path or path.startswith("score"):
            weight.requires_grad_(True)


def epoch_batches(count, batch_size, seed, epoch):
    """Shuffle the examples; every one is in exactly one batch."""
    order = list(range(count))
    random.Random(f"{seed} {epoch}").shuffle(order)
    return [order[i : i + batch_size] for i in range(0, count, batch_size)]


def pad(ids, pad_id):
    """Return token ids and mask, `[batch, seq]`, padded on the right to the longest."""
    width = max(map(len, ids))
    tokens = torch.tensor([row + [pad_id] * (width - len(row)) for row in ids])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
    return tokens, mask


def train(model, ids, labels, batches, pad_id, rate=RATE, seed=SEED):
    """Take one optimiser step per batch of `batches`; return the losses.

    ids are lists of token ids, labels class numbers, batches lists of positions in both.
    """
    named = [(path, weight) for path, weight in model.named_parameters() if weight.requires_grad]
    decay = [w for path, w in named if w.ndim >= 2 and "bias" not in path]
    rest = [w for path, w in named if w.ndim < 2 or "bias" in path]
    groups = [{"params": decay, "weight_decay": DECAY}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=rate)
    total = len(batches)
    warmup = math.ceil(WARMUP * total)
    losses = []
    model.train()
    for step, batch in enumerate(batches):
        torch.manual_seed(seed * 1_000_003 + step)  # dropout depends on the step alone
        tokens, mask = pad([ids[i] for i in batch], pad_id)
        logits = model(input_ids=tokens, attention_mask=mask).logits  # [batch, classes]
        loss = nn.functional.cross_entropy(logits, torch.tensor([labels[i] for i in batch]))
        loss.backward()
        nn.utils.clip_grad_norm_([w for _, w in named], MAX_NORM)
        rising, falling = step / max(1, warmup), (total - step) / max(1, total - warmup)
        for group in optimizer.param_groups:
            group["lr"] = rate * (rising if step < warmup else falling)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % 20 == 0:
            print(f"step {step:5d}/{total}  loss {loss.item():.4f}", file=sys.stderr)
    model.eval()
    return losses


@torch.no_grad()
def predict(model, ids, pad_id):
    """Return the class number of every row, 64 rows at a time."""
    guesses = []
    for start in range(0, len(ids), 64):
        tokens, mask = pad(ids[start : start + 64], pad_id)
        logits = model(input_ids=tokens, attention_mask=mask).logits
        guesses += logits.argmax(dim=-1).tolist()
    return guesses


def main(model_name, file):
    with open(file, encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = sorted({row["label"] for row in rows})
    tokenizer = AutoTokenizer.from_pretrained(model_name)
    texts = [row["text"] for row in rows]
    ids = tokenizer(texts, truncation=True, max_length=MAX_LENGTH)["input_ids"]
    labels = [names.index(row["label"]) for row in rows]
    test = range(0, len(rows), 5)
    rest = [i for i in range(len(rows)) if i % 5]

    torch.manual_seed(SEED)
    model = AutoModelForSequenceClassification.from_pretrained(
        model_name, num_labels=len(names), dtype=torch.float32
    )
    add_lora(model)
    batches = [
        [rest[i] for i in batch]
        for epoch in range(EPOCHS)
        for batch in epoch_batches(len(rest), BATCH, SEED, epoch)
    ]
    pad_id = tokenizer.pad_token_id or 0
    train(model, ids, labels, batches, pad_id)
    guesses = predict(model, [ids[i] for i in test], pad_id)
    hits = sum(guess == labels[i] for guess, i in zip(guesses, test, strict=True))
    print(f"accuracy on {len(test)} held-out rows: {hits / len(test):.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:3])
