"""AdapterHub folders against what the package `adapters` 1.3 computed (`tests/oracles/`)."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lightune.adapters import hub_folder
from lightune.adapters.hub_folder import load_hub_folder
from lightune.adapters.hub_save import save_hub_folder
from lightune.errors import AdapterError
from lightune.methods.bottleneck import BottleneckAdapter

ORACLE = Path(__file__).parents[1] / "oracles" / "adapterhub"
CASES = sorted(
    path.parent.relative_to(ORACLE).as_posix()
    for path in ORACLE.glob("*/*/adapter_config.json")
    if not path.parent.name.startswith("prefix")
)
PLACEMENTS = {"double_seq_bn": "houlsby", "seq_bn": "pfeiffer", "par_bn": "parallel"}


def base(family: str):
    """The random base model that the package had, frozen."""
    described = json.loads((ORACLE / family / "config.json").read_text())
    cls = getattr(transformers, described["class"])
    model = cls(cls.config_class(**described["settings"]))
    model.load_state_dict(load_file(ORACLE / family / "model.safetensors"))
    return model.eval().requires_grad_(False)


def answer(model, folder: Path):
    expected = load_file(folder / "expected.safetensors")
    names = [n for n in expected if n != "logits" and not n.startswith("grad.")]
    return model(**{name: expected[name] for name in names}).logits, expected


@pytest.mark.parametrize("case", CASES)
def test_outputs_and_gradients_are_those_of_the_package(case):
    folder = ORACLE / case
    model = base(case.split("/")[0])
    (part, _), manifest = load_hub_folder(folder, model, head=False)
    logits, expected = answer(model, folder)
    torch.testing.assert_close(logits, expected["logits"], rtol=1e-5, atol=2e-6)
    logits.square().sum().backward()
    method = BottleneckAdapter(**{k: v for k, v in manifest.method.items() if k != "name"})
    hub = hub_folder.places(model, method, "oracle")
    for path, parameter in part.trainable.items():
        place, _, name = path.rpartition(".")
        theirs = expected[f"grad.{hub[place]}.{hub_folder.PARAMETERS[name]}"]
        rounding = 2e-5 * theirs.abs().max().item() + 1e-6
        torch.testing.assert_close(parameter.grad, theirs, rtol=0, atol=rounding)
    assert method.placement == PLACEMENTS.get(case.split("/")[1], method.placement)


@pytest.mark.parametrize("case", CASES)
def test_what_is_saved_is_what_the_package_saved(case, tmp_path):
    folder = ORACLE / case
    model = base(case.split("/")[0])
    parts, manifest = load_hub_folder(folder, model)
    method = BottleneckAdapter(**{k: v for k, v in manifest.method.items() if k != "name"})
    labels = manifest.head.labels if manifest.head else ()
    save_hub_folder(tmp_path / "again", model, method, parts, "oracle", labels)
    for file in ("adapter_config.json", "head_config.json"):
        if not (folder / file).exists():
            continue
        ours, theirs = (json.loads((f / file).read_text()) for f in (tmp_path / "again", folder))
        if theirs["config"]:
            theirs["config"].pop("init_weights")  # how it started does not matter any more
            ours["config"].pop("init_weights")
        assert ours == theirs
    for file in ("adapter.safetensors", "model_head.safetensors"):
        assert (tmp_path / "again" / file).exists() == (folder / file).exists()
        if (folder / file).exists():
            ours, theirs = load_file(tmp_path / "again" / file), load_file(folder / file)
            assert ours.keys() == theirs.keys()
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_the_head_is_loaded_with_its_labels():
    model = base("bert")
    torch.nn.init.zeros_(model.classifier.weight)
    (_, head), manifest = load_hub_folder(ORACLE / "bert/seq_bn", model)
    logits, expected = answer(model, ORACLE / "bert/seq_bn")
    torch.testing.assert_close(logits, expected["logits"], rtol=1e-5, atol=2e-6)
    assert head.modules == ("classifier",)
    assert manifest.head.labels == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.fixture
def copy(tmp_path):
    """A folder of the package, to be changed."""
    return Path(shutil.copytree(ORACLE / "bert/seq_bn", tmp_path / "hub"))


def change(folder: Path, **settings) -> None:
    described = json.loads((folder / "adapter_config.json").read_text())
    for key, value in settings.items():
        (described if key in described else described["config"])[key] = value
    (folder / "adapter_config.json").write_text(json.dumps(described))


def test_a_missing_prefix_is_put_back_and_said(copy):
    weights = load_file(copy / "adapter.safetensors")
    save_file(
        {n.removeprefix("bert."): t for n, t in weights.items()}, copy / "adapter.safetensors"
    )
    said = []
    model = base("bert")
    load_hub_folder(copy, model, note=said.append)
    logits, expected = answer(model, copy)
    torch.testing.assert_close(logits, expected["logits"], rtol=1e-5, atol=2e-6)
    assert len(said) == 1
    assert "'bert.'" in said[0]


@pytest.mark.parametrize("layers", [1, 2])
def test_a_flexible_head_of_one_layer_is_mapped_and_a_deeper_one_refused(copy, layers):
    head = load_file(copy / "model_head.safetensors")
    flexible = {n.replace("classifier", "heads.oracle.1"): t for n, t in head.items()}
    if layers == 2:
        flexible |= {"heads.oracle.4.weight": torch.ones(3, 3)}
    save_file(flexible, copy / "model_head.safetensors")
    model = base("bert")
    if layers == 1:
        load_hub_folder(copy, model)
        assert torch.equal(model.classifier.weight, head["classifier.weight"])
    else:
        with pytest.raises(AdapterError, match="flexible head"):
            load_hub_folder(copy, model)
        load_hub_folder(copy, model, head=False)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"use_gating": True}, "use_gating"),
        ({"ln_before": True}, "ln_before"),
        ({"ln_after": True}, "ln_after"),
        ({"phm_layer": True}, "phm_layer"),
        ({"inv_adapter": "nice"}, "inv_adapter"),
        ({"leave_out": [0]}, "leave_out"),
        ({"residual_before_ln": "post_add"}, "residual_before_ln"),
        ({"residual_before_ln": False}, "residual_before_ln"),
        ({"original_ln_after": False}, "original_ln_after"),
        ({"original_ln_before": False}, "original_ln_before"),
        ({"mh_adapter": True}, "mh_adapter"),
        ({"non_linearity": "leakyrelu"}, "leakyrelu"),
        ({"stochastic_depth": 0.1}, "stochastic_depth"),
        ({"something_new": 1}, "something_new"),
        ({"model_type": "roberta"}, "roberta"),
        ({"config": {"architecture": "prefix_tuning"}}, "prefix_tuning"),
        ({"config": None}, "another method"),
    ],
)
def test_what_changes_the_forward_pass_and_is_not_built_here_is_refused(copy, settings, says):
    change(copy, **settings)
    model = base("bert")
    before = [id(module) for module in model.modules()]
    with pytest.raises(AdapterError, match=says):
        load_hub_folder(copy, model)
    assert [id(module) for module in model.modules()] == before


def test_a_pickle_is_refused_with_the_package_s_own_mend(copy):
    (copy / "adapter.safetensors").rename(copy / "pytorch_adapter.bin")
    with pytest.raises(AdapterError, match="pickle") as error:
        load_hub_folder(copy, base("bert"))
    assert "use_safetensors=True" in error.value.mend


@pytest.mark.parametrize("fault", ["missing", "unexpected", "misshapen", "two names", "no numbers"])
def test_wrong_tensors_are_refused_and_the_model_is_left_alone(copy, fault):
    weights = load_file(copy / "adapter.safetensors")
    name = next(iter(weights))
    if fault == "missing":
        del weights[name]
    elif fault == "unexpected":
        weights[name.replace("layer.0", "layer.7")] = weights[name].clone()
    elif fault == "misshapen":
        weights[name] = torch.ones(3)
    elif fault == "two names":
        weights[name.replace("oracle", "other")] = weights[name].clone()
    else:
        weights[name] = torch.full_like(weights[name], float("nan"))
    save_file(weights, copy / "adapter.safetensors")
    model = base("bert")
    before = {path: id(p) for path, p in model.named_parameters()}
    with pytest.raises(AdapterError):
        load_hub_folder(copy, model)
    assert {path: id(p) for path, p in model.named_parameters()} == before


@pytest.mark.parametrize(
    ("family", "settings", "mend"),
    [
        ("bert", {"pooler": True}, "pooler: false"),
        ("llama", {"placement": "parallel", "pooler": False}, "parallel_input: residual"),
        ("albert", {"placement": "houlsby", "pooler": False}, "placement: pfeiffer"),
    ],
)
def test_what_has_no_equal_in_the_package_is_not_saved(tmp_path, family, settings, mend):
    model = base(family)
    method = BottleneckAdapter(**settings)
    part = method.attach(model)
    with pytest.raises(AdapterError) as error:
        save_hub_folder(tmp_path / "x", model, method, [part])
    assert mend in error.value.mend
    assert not list(tmp_path.iterdir())


def test_a_peft_folder_is_not_taken_for_one(tmp_path):
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "config": {}}')
    assert not hub_folder.is_one(tmp_path)
    assert hub_folder.is_one(ORACLE / "bert/seq_bn")
