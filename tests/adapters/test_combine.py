"""Sums of LoRA adapters: the formula written out, ranks that differ, and what does not belong."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lightune.adapters.combine import Product, combine, read, refactor
from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import BaseModelId, HeadId, Manifest, describe_method
from lightune.adapters.save import save_adapter
from lightune.errors import AdapterError
from lightune.methods.base import methods
from lightune.methods.beside import train_new_modules
from lightune.methods.dora import DoRA
from lightune.methods.lora import LoRA
from lightune.models.hashing import base_hash
from lightune.models.tiny_kinds import KINDS

LABELS = ("no", "maybe", "yes")
KIND = KINDS["bert"]
ROWS = [[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]]
FIRST = LoRA(rank=4, alpha=6, targets=["query", "value"])
SECOND = LoRA(rank=2, alpha=5, targets=["query", "key"], rank_stabilized=True)


def write(folder: Path, method, seed: int, labels=LABELS, base_seed: int = 0) -> nn.Module:
    """Save an adapter with random values; return the model with it."""
    model = KIND.build(base_seed)
    digest = base_hash(model, ["classifier"])
    beside = train_new_modules(model, ["classifier"])
    parts = [method.attach(model), beside]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in parts:
            for parameter in part.trainable.values():
                parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    manifest = Manifest(
        method=describe_method(method),
        head=HeadId(kind="sequence_classification", labels=labels),
        base=BaseModelId(name="tiny", tensors_sha256=digest),
    )
    save_adapter(folder, model, parts, manifest)
    return model


def deltas(folder: Path) -> dict[str, torch.Tensor]:
    return {layer: p.B @ p.A for layer, p in read(folder).products.items()}


def test_the_sum_is_the_formula_and_works_on_the_base(tmp_path):
    write(tmp_path / "a", FIRST, 1)
    write(tmp_path / "b", SECOND, 2)
    made = combine([tmp_path / "a", tmp_path / "b"], [0.7, 0.3], tmp_path / "c")
    assert (made.rank, made.layers) == (6, 6)
    assert made.lost < 1e-6
    first, second, both = (deltas(tmp_path / name) for name in "abc")
    assert both.keys() == first.keys() | second.keys()
    for layer, found in both.items():
        zero = torch.zeros_like(found)
        expected = 0.7 * first.get(layer, zero) + 0.3 * second.get(layer, zero)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)

    model, plain = KIND.build(), KIND.build()
    load_adapter(tmp_path / "c", model, base_hash(model, ["classifier"]))
    with torch.no_grad():
        for layer, change in both.items():
            plain.get_parameter(f"{layer}.weight").add_(change)
        a, b = read(tmp_path / "a").beside, read(tmp_path / "b").beside
        for name in a:
            plain.get_parameter(name).copy_(0.7 * a[name] + 0.3 * b[name])
        inputs = KIND.inputs(model, ROWS)
        torch.testing.assert_close(
            model(**inputs).logits, plain(**inputs).logits, rtol=0, atol=1e-5
        )


def test_the_values_of_the_file_are_those_of_the_attachment(tmp_path):
    """Strengths are read as the layer applies them, ranks stabilised or not."""
    for name, method in (("a", FIRST), ("b", SECOND), ("c", LoRA(rank=3, start="pissa"))):
        model = write(tmp_path / name, method, 1)
        found = deltas(tmp_path / name)
        for layer, change in found.items():
            torch.testing.assert_close(
                change, model.get_submodule(layer).delta(), rtol=0, atol=1e-5
            )


def test_a_lower_rank_is_the_best_of_its_rank_and_says_what_is_lost(tmp_path):
    write(tmp_path / "a", FIRST, 1)
    write(tmp_path / "b", SECOND, 2)
    made = combine([tmp_path / "a", tmp_path / "b"], [1, 1], tmp_path / "c", rank=3)
    first, second, both = (deltas(tmp_path / name) for name in "abc")
    whole, left = 0.0, 0.0
    for layer, found in both.items():
        zero = torch.zeros_like(found)
        expected = first.get(layer, zero) + second.get(layer, zero)
        u, s, vh = torch.linalg.svd(expected)
        best = (u[:, :3] * s[:3]) @ vh[:3]
        torch.testing.assert_close(found, best, rtol=0, atol=1e-5)
        whole += s.square().sum().item()
        left += s[3:].square().sum().item()
    assert made.lost == pytest.approx((left / whole) ** 0.5, rel=1e-4)
    assert 0 < made.lost < 1


def test_more_rank_than_the_layer_has_is_filled_with_zeros():
    product = Product(torch.randn(9, 4), torch.randn(5, 9))
    small, values = refactor(product, 9)
    assert small.A.shape == (9, 4)
    assert len(values) == 4
    torch.testing.assert_close(small.B @ small.A, product.B @ product.A, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_pefts_folders_are_combined_as_peft_does(tmp_path):
    """PEFT's `add_weighted_adapter` with the combination `svd`, at full rank."""
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    kind = KINDS["llama-lm"]
    first = peft.LoraConfig(r=3, lora_alpha=4, target_modules=["q_proj"])
    model = peft.get_peft_model(kind.build(), first, "a")
    model.add_adapter("b", peft.LoraConfig(r=2, lora_alpha=5, target_modules=["q_proj"]))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path)
    model.add_weighted_adapter(["a", "b"], [0.7, 0.3], "c", combination_type="svd", svd_rank=5)
    model.set_adapter("c")
    combine([tmp_path / "a", tmp_path / "b"], [0.7, 0.3], tmp_path / "c")
    ours = kind.build()
    load_adapter(tmp_path / "c", ours, None)
    inputs = kind.inputs(ours, ROWS)
    theirs = model.eval()(**inputs).logits
    torch.testing.assert_close(ours(**inputs).logits, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("second", "weights", "said"),
    [
        ({"labels": ("a", "b", "c")}, [1, 1], "labels differ"),
        ({"base_seed": 5}, [1, 1], "base differ"),
        ({"method": DoRA()}, [1, 1], "no sum of low-rank"),
        ({"method": "bottleneck"}, [1, 1], "no sum of low-rank"),
        ({}, [1], "one finite weight"),
        ({}, [1, float("nan")], "one finite weight"),
        ({}, [1, -1], "no mean"),
    ],
)
def test_what_does_not_belong_together_is_refused(tmp_path, second, weights, said):
    write(tmp_path / "a", FIRST, 1)
    method = second.get("method", FIRST)
    method = methods()[method]() if isinstance(method, str) else method
    rest = {key: value for key, value in second.items() if key != "method"}
    write(tmp_path / "b", method, 2, **rest)
    with pytest.raises(AdapterError, match=said) as error:
        combine([tmp_path / "a", tmp_path / "b"], weights, tmp_path / "c")
    assert error.value.found
    assert error.value.mend
    assert not (tmp_path / "c").exists()


def test_a_damaged_adapter_is_not_combined(tmp_path):
    write(tmp_path / "a", FIRST, 1)
    write(tmp_path / "b", FIRST, 2)
    file = tmp_path / "b" / "adapter_model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(AdapterError, match="not the file that was saved"):
        combine([tmp_path / "a", tmp_path / "b"], [1, 1], tmp_path / "c")
