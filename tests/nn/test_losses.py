"""Cross-entropy at labelled tokens against torch's own on all logits: losses, gradients, models."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lightune.errors import ModelError
from lightune.methods.lora import LoRA
from lightune.models.tiny import FAMILIES, build
from lightune.nn import losses
from lightune.nn.losses import NO_LABEL, After, cross_entropy_sum, labelled
from lightune.types import HeadSpec

HEAD = HeadSpec("causal_lm")
DECODERS = ("gpt2", "llama", "qwen2", "qwen3", "gemma", "mistral", "phi3", "gpt_neox")


def case(tokens=37, width=16, words=101, dtype=torch.float32, bias=False):
    torch.manual_seed(0)
    hidden = torch.randn(tokens, width, dtype=dtype)
    weight = torch.randn(words, width, dtype=dtype) / 2
    return hidden, weight, torch.randn(words, dtype=dtype) if bias else None


def oracle(hidden, weight, bias, targets, after):
    """The formula written out, on all logits, under autograd."""
    logits = F.linear(hidden, weight, bias).float() * after.factor
    if after.cap:
        logits = after.cap * torch.tanh(logits / after.cap)
    return F.cross_entropy(logits, targets, reduction="sum")


@pytest.mark.parametrize("after", [After(), After(0.25), After(1.0, 3.0), After(0.5, 2.0)], ids=str)
@pytest.mark.parametrize("chunk", [1, 8, 37, 100])
@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_are_those_of_all_logits(after, chunk, bias):
    inputs = case(bias=bias)
    targets = torch.randint(101, (37,), generator=torch.Generator().manual_seed(1))
    mine = [None if t is None else t.clone().requires_grad_() for t in inputs]
    theirs = [None if t is None else t.clone().requires_grad_() for t in inputs]
    loss = cross_entropy_sum(mine[0], mine[1], targets, mine[2], after, chunk)
    expected = oracle(*theirs, targets, after)
    (loss / 7).backward()
    (expected / 7).backward()
    torch.testing.assert_close(loss, expected)
    for a, b in zip(mine, theirs, strict=True):
        if a is not None:
            torch.testing.assert_close(a.grad, b.grad)


def test_in_bfloat16_it_is_as_near_to_the_truth_as_torch_is():
    hidden, weight, _ = case(tokens=200, width=64, words=997, dtype=torch.bfloat16)
    targets = torch.arange(200)
    truth = hidden.double().requires_grad_()
    F.cross_entropy(truth @ weight.double().T, targets, reduction="sum").backward()
    errors = []
    for function in (
        lambda h: cross_entropy_sum(h, weight, targets, chunk=64),
        lambda h: F.cross_entropy((h @ weight.T).float(), targets, reduction="sum"),
    ):
        h = hidden.clone().requires_grad_()
        function(h).backward()
        errors.append((h.grad.double() - truth.grad).norm() / truth.grad.norm())
    assert errors[0] <= 1.5 * errors[1] < 0.02


def test_a_frozen_head_gets_no_gradient():
    hidden, weight, _ = case()
    targets = torch.zeros(37, dtype=torch.long)
    cross_entropy_sum(hidden.requires_grad_(), weight, targets).backward()
    assert hidden.grad is not None
    assert weight.grad is None


def test_a_loss_far_beyond_what_exp_can_hold_is_finite():
    hidden = torch.tensor([[1.0]], requires_grad=True)
    weight = torch.tensor([[500.0], [0.0], [-500.0]])
    loss = cross_entropy_sum(hidden, weight, torch.tensor([2]))
    loss.backward()
    assert loss.item() == pytest.approx(1000.0)
    assert hidden.grad.item() == pytest.approx(1000.0)


def test_no_more_than_a_chunk_of_logits_is_formed(monkeypatch):
    sizes = []
    linear = F.linear

    def spy(x, *rest):
        made = linear(x, *rest)
        sizes.append(made.numel())
        return made

    monkeypatch.setattr(losses.F, "linear", spy)
    monkeypatch.setattr(losses, "CHUNK_ELEMENTS", 10 * 101)
    hidden, weight, _ = case()
    cross_entropy_sum(hidden.requires_grad_(), weight, torch.zeros(37, dtype=torch.long))
    assert max(sizes) == 10 * 101
    assert sum(sizes) == 37 * 101


def batch(words=300, seq=12):
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(6, words, (3, seq), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, 9:] = 0
    targets = ids.masked_fill(mask == 0, NO_LABEL)
    targets[0, :5] = targets[1, :3] = targets[2, :7] = NO_LABEL
    return {"input_ids": ids, "attention_mask": mask}, targets


def all_logits(model, inputs, targets):
    logits = model(**inputs).logits[:, :-1].float()
    return F.cross_entropy(logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=NO_LABEL)


@pytest.mark.parametrize("family", DECODERS)
@pytest.mark.parametrize("wanted", ["auto", "full"])
def test_every_family_gives_the_loss_and_gradients_of_its_own_logits(family, wanted):
    model, _ = FAMILIES[family](HEAD)
    attached = LoRA(rank=2).attach(model)
    inputs, targets = batch()
    for weight in attached.trainable.values():
        nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(1))
    assert losses.choose(model, wanted) == []
    expected = all_logits(model, inputs, targets)
    expected.backward()
    grads = [p.grad.clone() for p in attached.trainable.values()]
    for weight in attached.trainable.values():
        weight.grad = None
    found = labelled(model, inputs, targets)
    assert (found.head is None) == (wanted == "full")
    torch.testing.assert_close(found.mean(), expected)
    torch.testing.assert_close(found.each().mean(), expected.detach())
    found.mean().backward()
    for weight, grad in zip(attached.trainable.values(), grads, strict=True):
        torch.testing.assert_close(weight.grad, grad, atol=1e-6, rtol=1e-4)


def test_lora_on_the_head_itself_is_trained():
    model, _ = FAMILIES["mistral"](HEAD)
    attached = LoRA(rank=2, targets=["lm_head"]).attach(model)
    for weight in attached.trainable.values():
        nn.init.normal_(weight)
    inputs, targets = batch()
    losses.choose(model)
    found = labelled(model, inputs, targets)
    torch.testing.assert_close(found.mean(), all_logits(model, inputs, targets))
    found.mean().backward()
    assert all(w.grad.abs().sum() > 0 for w in attached.trainable.values())


def test_a_hook_on_the_head_is_not_passed_over():
    model, _ = FAMILIES["llama"](HEAD)
    inputs, targets = batch()
    before = labelled(model, inputs, targets).mean()
    handle = model.lm_head.register_forward_hook(lambda m, args, out: out * 3)
    losses.choose(model)
    after = labelled(model, inputs, targets).mean()
    torch.testing.assert_close(after, all_logits(model, inputs, targets))
    assert (after - before).abs() > 1e-3
    handle.remove()


@pytest.mark.parametrize("family", ["gemma2", "cohere", "granite"])
def test_what_a_family_does_to_its_logits_is_done(family):
    import transformers

    names = {"gemma2": "Gemma2", "cohere": "Cohere", "granite": "Granite"}
    special = {
        "gemma2": {"final_logit_softcapping": 0.05},
        "cohere": {"logit_scale": 0.3},
        "granite": {"logits_scaling": 5.0},
    }[family]
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = getattr(transformers, f"{names[family]}Config")(
        **sizes, **heads, **tokens, **special, head_dim=8
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{names[family]}ForCausalLM")(config).eval()
    assert losses.choose(model) == []
    assert losses.after_of(model) != losses.AS_THEY_ARE
    inputs, targets = batch()
    found = labelled(model, inputs, targets)
    assert found.head is not None
    torch.testing.assert_close(found.mean(), all_logits(model, inputs, targets))


def test_a_model_that_does_something_unknown_to_its_logits_gives_all_of_them():
    model, _ = FAMILIES["llama"](HEAD)
    handle = model.register_forward_hook(lambda m, args, out: _twice(out))
    [note] = losses.choose(model)
    assert "more to its logits" in note
    inputs, targets = batch()
    found = labelled(model, inputs, targets)
    assert found.head is None
    torch.testing.assert_close(found.mean(), all_logits(model, inputs, targets))
    handle.remove()
    assert losses.choose(model) == []
    assert labelled(model, inputs, targets).head is not None


def _twice(outputs):
    outputs.logits = outputs.logits * 2
    return outputs


def test_choosing_leaves_classifiers_and_modes_alone():
    classifier, _ = build("llama", HeadSpec("sequence_classification", ("a", "b")))
    assert losses.choose(classifier) == []
    model, _ = FAMILIES["llama"](HEAD)
    model.train()
    model.model.layers[0].eval()
    losses.choose(model)
    assert model.training
    assert not model.model.layers[0].training
    assert not model.lm_head._forward_pre_hooks


def test_a_head_that_is_never_called_is_an_error():
    model, _ = FAMILIES["llama"](HEAD)
    model.get_output_embeddings = lambda: nn.Linear(32, 400)
    inputs, targets = batch()
    with pytest.raises(ModelError, match="does not call"):
        labelled(model, inputs, targets)


def test_prompts_in_front_of_the_text_do_not_shift_the_labels():
    model, _ = FAMILIES["llama"](HEAD)
    inputs, targets = batch()
    embed = model.get_input_embeddings()
    words = embed(inputs["input_ids"])
    front = torch.randn(3, 4, 32)
    mask = torch.cat([torch.ones(3, 4, dtype=torch.long), inputs["attention_mask"]], 1)
    longer = {"inputs_embeds": torch.cat([front, words], 1), "attention_mask": mask}
    logits = model(**longer).logits[:, 4:-1]
    expected = F.cross_entropy(
        logits.flatten(0, 1), targets[:, 1:].flatten(), ignore_index=NO_LABEL
    )
    torch.testing.assert_close(labelled(model, longer, targets).mean(), expected)
