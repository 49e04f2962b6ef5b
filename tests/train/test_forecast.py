"""The forecast: what it counts, that it learns nothing, and that it is about right."""

import time

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from lightune.evaluate.predict import predict_logits
from lightune.nn import dropout
from lightune.tasks.classification import Classification
from lightune.train.forecast import forecast
from lightune.train.memory import peak_rss_mb, reset_peak, rss_mb
from tests.train.training import STATE, Training, collate_for, examples_of, same, spec_of, tiny


def foresee(model, train, validation=(), trainable=None, brief=False, masters=(), **values):
    task = Classification()

    def predict(examples):
        return predict_logits(model, task, examples, STATE, pad_id=0)

    return forecast(
        model,
        task,
        STATE,
        train,
        spec=spec_of(**values),
        trainable=trainable or dict(model.named_parameters()),
        collate=collate_for(task),
        validation=validation,
        predict=predict,
        brief=brief,
        masters=masters,
    )


@pytest.mark.parametrize("brief", [False, True])
def test_it_learns_nothing_and_leaves_no_trace(brief):
    model = tiny(0.3)
    model.bert.pooler.train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    model.register_buffer("seen", torch.zeros(()))

    def count(*call):
        model.seen.add_(1.0)

    model.bert.register_forward_hook(count)
    before["seen"] = torch.zeros(())
    master = torch.nn.Parameter(model.classifier.weight.detach().clone())
    foresee(
        model,
        examples_of(20),
        examples_of(5),
        epochs=2,
        evaluation={"every": "epoch"},
        brief=brief,
        masters=[(master, model.classifier.weight)],
        trainable=dict(model.named_parameters()) | {"classifier.weight": master},
    )
    assert same(before, dict(model.state_dict()))
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    assert all(weight.grad is None for weight in (master, *model.parameters()))
    assert not dropout._pools


def test_counts():
    model = tiny().requires_grad_(False)
    head = {f"classifier.{k}": w for k, w in model.classifier.named_parameters()}
    for weight in head.values():
        weight.requires_grad_(True)
    seen = foresee(model, examples_of(13), trainable=head, epochs=2)
    assert seen.steps == 8
    assert seen.trainable_parameters == 16 * 3 + 3
    assert seen.total_parameters == sum(w.numel() for w in model.parameters())


def wide() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=50,
        num_labels=3,
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
    )
    return BertForSequenceClassification(config).eval()


def test_memory_is_about_what_training_takes():
    """Wide bounds: other tests of this process leave memory behind that can be used again."""
    train = examples_of(128)
    settings = {"batch_size": 64, "epochs": 1, "evaluation": {"every": "epoch"}}
    model = wide()
    seen = foresee(model, train, examples_of(8), **settings)
    adam_and_best = 12 * seen.trainable_parameters / 1e6
    assert adam_and_best > 15
    assert seen.peak_memory_mb > rss_mb() - 100 + adam_and_best
    reset_peak()
    Training(model, train, evaluate=lambda: {"macro_f1": 0.5}, **settings)
    assert 0.75 < seen.peak_memory_mb / peak_rss_mb() < 1.33


def test_time_is_about_what_training_takes():
    """Wide bounds: the machine has other work, and the steps are short."""
    train = examples_of(128)
    model = wide()
    seen = foresee(model, train, batch_size=16, epochs=2)
    begun = time.perf_counter()
    Training(model, train, batch_size=16, epochs=2)
    assert 0.25 < seen.seconds / (time.perf_counter() - begun) < 4


def test_scoring_is_counted():
    model, train = wide(), examples_of(32)
    settings = {"batch_size": 16, "epochs": 4}
    without = foresee(model, train, examples_of(300), **settings)
    once = foresee(model, train, examples_of(300), evaluation={"every": 8}, **settings)
    often = foresee(model, train, examples_of(300), evaluation={"every": 1}, **settings)
    assert without.seconds < once.seconds < often.seconds
    assert once.peak_memory_mb > 4 * once.trainable_parameters / 1e6
