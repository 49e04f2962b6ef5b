"""Predictions do not depend on order, on the past, or on padding; modes come back as they were."""

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig
from transformers import LlamaForSequenceClassification as Llama

from lightune.evaluate.predict import predict_logits
from lightune.tasks.classification import Classification
from lightune.types import Example

STATE = {"labels": ["x", "y", "z"], "counts": [1] * 3, "multi_label": False, "class_weights": None}
SHAPE = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}


def bert():
    torch.manual_seed(0)
    return BertForSequenceClassification(
        BertConfig(**SHAPE, num_attention_heads=2, num_labels=3, hidden_dropout_prob=0.5)
    )


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(**SHAPE, num_attention_heads=2, num_labels=3, pad_token_id=0)
    return Llama(config)


def examples(count=23, seed=0):
    made = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 20, (count,), generator=made).tolist()
    return [
        Example(100 + i, {"input_ids": torch.randint(1, 50, (n,), generator=made).tolist()})
        for i, n in enumerate(lengths)
    ]


def run(model, some, **options):
    options = {"pad_id": 0, "batch_size": 4} | options
    return predict_logits(model, Classification(), some, STATE, **options)


@pytest.mark.parametrize("make", [bert, llama])
def test_each_row_is_what_the_model_says_of_it_alone(make):
    model, some = make().eval(), examples()
    found = run(model, some)
    for row, example in zip(found, some, strict=True):
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([example.inputs["input_ids"]])).logits[0]
        torch.testing.assert_close(row, alone, rtol=0, atol=1e-4)


def test_order_of_the_input_does_not_matter_bit_for_bit():
    model, some = bert(), examples(40)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(3)).tolist()
    straight, shuffled = run(model, some), run(model, [some[i] for i in order])
    assert torch.equal(straight[order], shuffled)
    assert torch.equal(straight, run(model, some))


def test_records_share_a_batch_by_what_they_are():
    """On other machines the rows of a batch touch each other's rounding, so it must not vary."""
    model, batches = bert(), []

    def note(_, __, inputs):
        assert not torch.is_grad_enabled()
        batches.append(sorted(inputs["input_ids"].tolist()))

    model.register_forward_pre_hook(note, with_kwargs=True)
    ids = [[3, 4], [5, 6], [7, 8], [1, 2], [9, 9, 9], [2, 1]]
    some = [Example(i, {"input_ids": row}) for i, row in enumerate(ids)]
    run(model, some, batch_size=2)
    straight = [batches.pop() for _ in range(3)]
    run(model, some[::-1], batch_size=2)
    assert [batches.pop() for _ in range(3)] == straight


def test_modes_come_back_even_after_an_error():
    model = bert().train()
    model.bert.embeddings.eval()
    modes = [m.training for m in model.modules()]
    first = run(model, examples())
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(first, run(model, examples())), "dropout is off"
    with pytest.raises(IndexError):
        run(model, [Example(0, {"input_ids": [999]})])
    assert [m.training for m in model.modules()] == modes


def test_no_graph_is_kept_and_training_goes_on_afterwards():
    model = bert().train()
    found = run(model, examples())
    assert not found.requires_grad
    assert not found.is_inference()
    model(input_ids=torch.tensor([[1, 2]]), labels=torch.tensor([0])).loss.backward()
    assert model.classifier.weight.grad is not None


def test_progress_reaches_the_end():
    seen = []
    run(bert(), examples(10), on_batch=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 10), (8, 10), (10, 10)]


def test_nothing_to_predict():
    assert run(bert(), []).shape == (0, 3)
