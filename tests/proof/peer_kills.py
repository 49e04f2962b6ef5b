"""Hugging Face Trainer under the harness of `kills.py`: killed at random moments, and resumed.

    python tests/proof/peer_kills.py --kills 40

The same tiny model and rows, saved after every step, two checkpoints kept; killed, and resumed from
`get_last_checkpoint`, as the library's own scripts do. A resume that ends with an error is a lost
run; the final weights are compared byte for byte with those of an undisturbed training that saved
as often. Needs `accelerate`; without it prints the reason. Prints one JSON object.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from kills import PER_RUN, STEPS, begun_at, in_child
from small_runs import rows

from lightune.models.tiny import save_tiny

try:
    import accelerate
    import transformers
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer
    from transformers import TrainingArguments as Arguments
    from transformers.trainer_utils import get_last_checkpoint
except ImportError as error:
    accelerate, WHY_NOT = None, str(error)


class Rows(torch.utils.data.Dataset):
    """The rows as Trainer takes them."""

    def __init__(self, model: Path) -> None:
        tokenizer = AutoTokenizer.from_pretrained(model)
        table = rows()
        texts = [row["text"] for row in table]
        self.inputs = tokenizer(texts, padding="max_length", max_length=16, truncation=True)
        self.labels = [int(row["label"] == "pos") for row in table]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        ids, mask = self.inputs["input_ids"][index], self.inputs["attention_mask"][index]
        return {"input_ids": ids, "attention_mask": mask, "labels": self.labels[index]}


def train(model: Path, out: Path) -> None:
    """Train to the end, from the last checkpoint where there is one."""
    torch.manual_seed(0)
    network = AutoModelForSequenceClassification.from_pretrained(model, num_labels=2)
    arguments = Arguments(
        output_dir=str(out),
        max_steps=STEPS,
        per_device_train_batch_size=16,
        save_steps=1,
        save_total_limit=2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        seed=0,
    )
    trainer = Trainer(model=network, args=arguments, train_dataset=Rows(model))
    out.mkdir(exist_ok=True)
    (out / "environment.json").write_text("{}")  # tells the harness that the training begins
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(out)))
    network.save_pretrained(out / "part")
    (out / "part").rename(out / "final")


def prove(kills: int, seed: int, place: Path) -> dict[str, Any]:
    """Spend `kills`; return the counts."""
    chance, log = random.Random(seed), place / "log.txt"
    model = save_tiny(place / "model", "bert")
    whole = place / "whole"
    assert in_child(lambda: train(model, whole), log, whole) == 0, log.read_text()
    seconds = time.time() - begun_at(whole)
    expected = (whole / "final" / "model.safetensors").read_bytes()
    found: dict[str, Any] = {"kills": 0, "runs": 0, "lost": 0, "unequal": 0, "reasons": {}}
    while found["kills"] < kills:
        out, found["runs"] = place / f"run-{found['runs']}", found["runs"] + 1
        for attempt in range(PER_RUN + 1):
            may_kill = attempt < PER_RUN and found["kills"] < kills
            after = chance.uniform(0, seconds) if may_kill else None
            log.unlink(missing_ok=True)
            status = in_child(lambda o=out: train(model, o), log, out, after)
            if status is None:
                found["kills"] += 1
            elif status:
                found["lost"] += 1
                reason = log.read_text().strip().splitlines()[-1][:160]
                for word in (str(place), out.name):
                    reason = reason.replace(word, "…")
                found["reasons"][reason] = found["reasons"].get(reason, 0) + 1
                break
            if (out / "final").exists():
                same = (out / "final" / "model.safetensors").read_bytes() == expected
                found["unequal"] += not same
                break
        shutil.rmtree(out, ignore_errors=True)
    versions = {"transformers": transformers.__version__, "accelerate": accelerate.__version__}
    return found | versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    if accelerate is None:
        print(json.dumps({"skipped": WHY_NOT}))
        return
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        found = prove(chosen.kills, chosen.seed, Path(place))
    print(json.dumps(found | {"seconds": round(time.monotonic() - begun)}, indent=1))


if __name__ == "__main__":
    main()
