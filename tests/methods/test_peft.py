"""PEFT's methods under the protocol of this package, equal to PEFT's own model."""

import copy
import json

import pytest
import torch

from lightune.adapters.manifest import Manifest, describe_method
from lightune.adapters.save import save_adapter
from lightune.errors import MethodError
from lightune.methods.peft import Peft
from lightune.models.tiny_kinds import KINDS
from lightune.recipe import load_recipe

peft = pytest.importorskip("peft", reason="what is tested; pip install 'lightune[peft]'")

ADALORA = {"type": "ADALORA", "init_r": 4, "target_r": 2, "total_step": 100}
SETTINGS = [ADALORA, {"type": "LOHA", "r": 4}, {"type": "PEANUT"}]
SETTINGS_ON = ("bert", "llama-lm")
ROWS = [[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")


def randomise(parameters) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize("settings", [{"type": "VERA"}, *SETTINGS], ids=lambda s: s["type"])
def test_outputs_and_gradients_are_those_of_peft(settings, tmp_path):
    kind = KINDS["bert"]
    model = kind.build()
    method = Peft(**settings)
    torch.manual_seed(0)
    part = method.attach(model)
    randomise(part.trainable.values())
    save_adapter(tmp_path / "a", model, [part], Manifest(method=describe_method(method)))
    theirs = peft.PeftModel.from_pretrained(kind.build(), tmp_path / "a", is_trainable=True).eval()
    inputs = kind.inputs(model, ROWS)
    for one in (model, theirs):
        one(**inputs).logits.square().sum().backward()
    torch.testing.assert_close(model(**inputs).logits, theirs(**inputs).logits, rtol=0, atol=1e-5)
    other = dict(theirs.base_model.model.named_parameters())
    for path, parameter in part.trainable.items():
        torch.testing.assert_close(parameter.grad, other[path].grad, rtol=1e-4, atol=1e-5)


def test_adalora_divides_its_budget_after_each_step_as_peft_does():
    kind = KINDS["bert"]
    settings = ADALORA | {"total_step": 12, "tinit": 2, "tfinal": 2, "deltaT": 1}
    ours = kind.build()
    part = (method := Peft(**settings)).attach(ours)
    config = {key: value for key, value in settings.items() if key != "type"}
    targets = part.peft_config["target_modules"]
    theirs = peft.get_peft_model(
        kind.build(), peft.AdaLoraConfig(**config, target_modules=targets)
    ).eval()
    other = dict(theirs.base_model.model.named_parameters())
    with torch.no_grad():
        for path, parameter in part.trainable.items():
            other[path].copy_(parameter)
    theirs.base_model.model.zero_grad()
    inputs = kind.inputs(ours, ROWS)
    optimisers = [
        torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.5)
        for model in (ours, theirs)
    ]
    for step in range(1, 13):
        for model, optimiser in zip((ours, theirs.base_model.model), optimisers, strict=True):
            model(**inputs).logits.square().sum().backward()
            optimiser.step()
            if model is not ours:
                theirs.base_model.update_and_allocate(step)
            optimiser.zero_grad()
        method.on_step(part, step)
    zeros = 0
    for path, parameter in part.trainable.items():
        torch.testing.assert_close(parameter, other[path], rtol=1e-4, atol=1e-6)
        zeros += int((parameter == 0).sum()) if "lora_E" in path else 0
    assert zeros, "some of the budget must have been taken away"


def test_a_recipe_names_the_type_and_its_settings():
    recipe = load_recipe(
        {"task": "classification", "method": {"name": "peft", "type": "LOHA", "r": 4}, "data": "x"}
    )
    assert describe_method(recipe.method)["r"] == 4
    json.dumps(describe_method(recipe.method))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"type": "VEERA"}, "VERA"),
        ({"type": "LOHA", "rr": 4}, "`r`"),
        ({"type": "LOHA", "target_modules": ["query"]}, "targets"),
        ({"type": "PROMPT_TUNING"}, "prompt_tuning"),
        ({"type": "SHADOW"}, "prompt_tuning"),
        ({"type": "ADALORA"}, "total_step"),
        ({"type": "LOHA", "targets": ["quarry"]}, "query"),
        ({"type": "LORA", "init_lora_weights": "pissa"}, "lora"),
    ],
)
def test_what_cannot_be_is_refused_and_leaves_no_trace(settings, said):
    model = KINDS["bert"].build()
    before = copy.deepcopy(model.state_dict())
    modules = [(path, id(module)) for path, module in model.named_modules()]
    attributes = [sorted(vars(module)) for module in model.modules()]
    with pytest.raises(MethodError) as error:
        Peft(**settings).attach(model)
    assert said in error.value.mend + error.value.found
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [(path, id(module)) for path, module in model.named_modules()] == modules
    assert [sorted(vars(module)) for module in model.modules()] == attributes
    assert not any(p.requires_grad for p in model.parameters())
