"""Several methods at once: the sum of their effects, their own rates, and what collides."""

import pytest
import torch

from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import Manifest, describe_method
from lightune.adapters.save import save_adapter
from lightune.errors import ConfigErrors, MethodError
from lightune.methods.base import methods
from lightune.methods.beside import train_new_modules
from lightune.methods.combined import Combined
from lightune.methods.lora import LoRA
from lightune.models.tiny_kinds import KINDS
from lightune.recipe import dump, load_recipe
from lightune.settings import parse

SETTINGS = [
    {"methods": ["norm_tuning", {"name": "lora", "rank": 2}]},
    {"methods": ["prompt_tuning", "norm_tuning"]},
]
ROWS = [[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]]


def combined(*given) -> Combined:
    return parse(Combined, {"methods": list(given)}, "method")


def names(kind: str, part: str) -> dict:
    return {"name": "lora", "targets": [part]} if kind == "lora" else {"name": kind}


def test_a_recipe_names_several_methods_in_a_list():
    recipe = load_recipe(
        {
            "task": "classification",
            "method": ["bottleneck", {"name": "lora", "rank": 4}],
            "data": "x",
        }
    )
    first, second = recipe.method.methods
    assert (first["name"], second["name"], second["rank"]) == ("bottleneck", "lora", 4)
    assert second["alpha"] == 16, "defaults are written out"
    again = load_recipe(dump_to_dict(recipe))
    assert again.method == recipe.method
    other = load_recipe(recipe, ["method=[bitfit, prompt_tuning]"])
    assert [part["name"] for part in other.method.methods] == ["bitfit", "prompt_tuning"]


def dump_to_dict(recipe):
    from lightune import strict_yaml

    return strict_yaml.read(dump(recipe), "recipe")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["lora"], "at least 2"),
        (["lora", "lorra"], "there is no method 'lorra'"),
        (["bottleneck", {"name": "lora", "rnak": 3}], "unknown key"),
        (["lora", {"name": "combined"}], "cannot stand in another"),
        ("lora", "list"),
    ],
)
def test_a_wrong_list_is_refused(given, said):
    with pytest.raises(ConfigErrors, match=said) as error:
        parse(Combined, {"methods": given}, "method")
    assert error.value.mend


def test_each_does_what_it_does_alone():
    """LoRA on two disjoint sets of layers is LoRA on their union, and the changes add up."""
    kind = KINDS["bert"]
    model, plain = kind.build(), kind.build()
    part = combined(names("lora", "query"), names("lora", "value")).attach(model)
    other = LoRA(targets=["query", "value"]).attach(plain)
    torch.manual_seed(0)
    for path, parameter in part.trainable.items():
        other.trainable[path].data.copy_(parameter.data.normal_())
    inputs = kind.inputs(model, ROWS)
    assert torch.equal(model(**inputs).logits, plain(**inputs).logits)
    assert part.deltas.keys() == other.deltas.keys()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("lora", "dora"),
        ("lora", "lora"),
        ("lora", "ia3"),
        ("ia3", "lora"),
        ("bitfit", "lora"),
        ("lora", "bitfit"),
        ("full", "lora"),
        ("lora", "full"),
        ("lora", "bottleneck"),
        ("bottleneck", "bottleneck"),
        ("prompt_tuning", "prompt_tuning"),
        ("lora", "head"),
    ],
)
@pytest.mark.parametrize("name", ["bert", "gpt2-lm"])
def test_a_collision_is_refused_and_leaves_no_trace(name, first, second):
    kind = KINDS[name]
    model = kind.build()
    before = {path: id(module) for path, module in model.named_modules()}
    with pytest.raises(MethodError) as error:
        combined(first, second).attach(model)
    assert error.value.found
    assert error.value.mend
    assert {path: id(module) for path, module in model.named_modules()} == before
    assert not any(p.requires_grad for p in model.parameters())


def test_targets_name_layers_that_an_earlier_method_wraps():
    """Else `dense` would mean fewer layers behind a bottleneck, and nobody would be told."""
    lora = {"name": "lora", "targets": ["dense"]}
    alone = LoRA(targets=["dense"]).attach(KINDS["bert"].build())
    part = combined("bottleneck", lora).attach(KINDS["bert"].build())
    found = {path.replace(".base.", ".") for path in part.parts[1].trainable}
    assert found == alone.trainable.keys()
    assert any(".base." in path for path in part.parts[1].trainable)


def test_each_keeps_its_own_rate():
    model = KINDS["bert"].build()
    method = combined("prompt_tuning", "lora")
    part = method.attach(model)
    groups = method.param_groups(part, Combined.learning_rate)
    rates = [group["lr"] for group in groups]
    own = methods()
    assert rates == pytest.approx([own["prompt_tuning"].learning_rate, own["lora"].learning_rate])
    doubled = method.param_groups(part, 2 * Combined.learning_rate)
    assert [group["lr"] for group in doubled] == pytest.approx([2 * rate for rate in rates])
    ids = [id(p) for group in groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in part.trainable.values())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_loras_of_two_ranks_are_saved_as_one_that_peft_loads(tmp_path):
    peft = pytest.importorskip("peft", reason="oracle; pip install 'lightune[test]'")
    kind = KINDS["bert"]
    model = kind.build()
    method = combined(
        {"name": "lora", "rank": 4, "targets": ["query"]},
        {"name": "lora", "rank": 2, "alpha": 3, "targets": ["value", "intermediate.dense"]},
    )
    beside = train_new_modules(model, ["classifier"])
    parts = [method.attach(model), beside]
    torch.manual_seed(0)
    for part in parts:
        for parameter in part.trainable.values():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    manifest = Manifest(method=describe_method(method))
    save_adapter(tmp_path / "adapter", model, parts, manifest)
    inputs = kind.inputs(model, ROWS)
    ours = model(**inputs).logits
    theirs = peft.PeftModel.from_pretrained(kind.build(), tmp_path / "adapter").eval()
    torch.testing.assert_close(theirs(**inputs).logits, ours, rtol=0, atol=1e-4)
    again = kind.build()
    load_adapter(tmp_path / "adapter", again, None)
    assert torch.equal(again(**inputs).logits, ours)
