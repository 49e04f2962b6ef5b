"""A peer: TRL's SFTTrainer with PEFT, in one process, printing one JSON line.

At its best: bfloat16, grouped by length, no gradient checkpointing (its default, which saves memory
for time), TRL's own loss that forms no full logits; attention and format of the frozen weights as
told. Packing is left out: it needs attention kernels that a CPU does not have.

Run:  as `peer_trainer.py`, with TRL importable (`trl_environment.py` sees to that).
"""

import json
import sys
from typing import Any

import peer_parts as parts
from datasets import Dataset
from peer_trainer import arguments, result, timed
from transformers import set_seed
from trl import SFTConfig, SFTTrainer


def main() -> None:
    job = json.loads(sys.argv[1])
    set_seed(job["seed"])
    tokenizer = parts.tokenizer_of(job)
    train = parts.instructions(job, tokenizer, parts.read(job["train"]))
    model = parts.base_model(job, job["attention"], job["weights"])
    model = parts.with_lora(job, model)

    def make(**more: Any) -> SFTTrainer:
        settings = arguments(
            job,
            gradient_checkpointing=False,
            max_length=job["max_length"],
            pad_to_multiple_of=8,
            **more,
        )
        return SFTTrainer(
            model,
            SFTConfig(**settings),
            train_dataset=Dataset.from_list(train),
            processing_class=tokenizer,
        )

    _, seconds, steps = timed(make, job)
    out = result(job, model, train, seconds, steps)
    if job["score"]:
        model.save_pretrained(job["out"] + "/adapter")
        out["score"] = parts.adapter_loss(job, job["out"] + "/adapter")
    print(json.dumps(out), flush=True)


if __name__ == "__main__":
    main()
