"""A tiny BERT, random labelled examples, and a training of them in one call."""

from functools import partial

import torch
from transformers import BertConfig, BertForSequenceClassification

from lightune.engine.batches import collate
from lightune.tasks.classification import Classification
from lightune.train.loop import fit
from lightune.train.spec import TrainSpec
from lightune.types import Example

STATE = {
    "labels": ["a", "b", "c"],
    "counts": [1, 1, 1],
    "multi_label": False,
    "class_weights": None,
}
SIZES = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}


def tiny(dropout: float = 0.0, seed: int = 0, labels: int = 3) -> BertForSequenceClassification:
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=50,
        num_hidden_layers=2,
        num_labels=labels,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        **SIZES,
    )
    return BertForSequenceClassification(config).eval()


def examples_of(count: int, seed: int = 0) -> list[Example]:
    """Label = first token modulo 3, so that there is something to learn."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(count):
        length = int(torch.randint(3, 20, (), generator=generator))
        ids = torch.randint(1, 50, (length,), generator=generator).tolist()
        made.append(Example(index, {"input_ids": ids}, target=ids[0] % 3))
    return made


def collate_for(task: Classification, state=STATE):
    return partial(collate, pad_id=0, targets=lambda e, width: task.targets(e, state, width))


def spec_of(**values) -> TrainSpec:
    """A `TrainSpec` that logs every step and scores never, unless told otherwise."""
    evaluation = {"every": None, "log_every": 1} | values.pop("evaluation", {})
    return TrainSpec.model_validate({"batch_size": 4, "evaluation": evaluation, **values})


class Training:
    """One call of `fit` on all weights of a model, and its log."""

    def __init__(self, model, train, rate=1e-2, task=None, masters=(), trainable=None, **options):
        self.model, self.log = model, []
        task = task or Classification()
        weights = trainable or dict(model.named_parameters())
        values = {k: options.pop(k) for k in list(options) if k in TrainSpec.model_fields}
        self.spec = spec_of(**values)
        defaults = {"collate": collate_for(task), "on_log": self.log.append}
        self.result = fit(
            model,
            task,
            STATE,
            train,
            spec=self.spec,
            groups=[{"params": list(weights.values()), "lr": rate}],
            trainable=weights,
            masters=masters,
            **(defaults | options),
        )

    @property
    def losses(self) -> list[float]:
        return [entry["loss"] for entry in self.log if "loss" in entry]

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return {path: w.detach().clone() for path, w in self.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)
