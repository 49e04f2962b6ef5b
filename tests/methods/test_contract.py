"""What every method promises, on every model family. A new method is tested without editing this.

Each pair is trained for one step under a fixed loss, with the modules beside it, as the pipeline
does. Trainables are randomised first where a zero start would hide a missing gradient.
"""

import copy

import pytest
import torch
from torch import Tensor, nn

from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import Manifest, describe_method
from lightune.adapters.merge import merged_state
from lightune.adapters.save import save_adapter
from lightune.methods.base import methods
from lightune.methods.beside import train_new_modules
from lightune.models.tiny import FAMILIES
from lightune.nn.surgery import head_path, linears
from lightune.types import HeadSpec

HEAD = HeadSpec("sequence_classification", ("no", "maybe", "yes"))
IDS = torch.tensor([[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]])  # [batch, seq]
MASK = torch.ones_like(IDS)

GRID = [(method, family) for method in methods() for family in FAMILIES]


def logits(model: nn.Module) -> Tensor:
    return model(input_ids=IDS, attention_mask=MASK).logits


def outside_the_base(model: nn.Module) -> list[str]:
    """What a checkpoint of the bare base model does not have."""
    parts = [name for name, _ in model.named_children() if name != model.base_model_prefix]
    return [name for name in parts if list(model.get_submodule(name).parameters())]


def loss(model: nn.Module) -> Tensor:
    return nn.functional.cross_entropy(logits(model).float(), torch.tensor([0, 2]))


def randomise(attachments) -> None:
    torch.manual_seed(7)
    with torch.no_grad():
        for part in attachments:
            for parameter in part.trainable.values():
                parameter.add_(0.2 * torch.randn_like(parameter))


@pytest.fixture(scope="module")
def bases():
    """One frozen model for each family, and what it is before anything is attached."""
    made = {family: make(HEAD, 0)[0] for family, make in FAMILIES.items()}
    return {family: (model, fingerprint(model)) for family, model in made.items()}


def fingerprint(model: nn.Module) -> dict:
    """All that `detach()` has to bring back."""
    return {
        "state": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "objects": [id(p) for p in model.parameters()],
        "requires_grad": {name: p.requires_grad for name, p in model.named_parameters()},
        "training": {name: m.training for name, m in model.named_modules()},
        "hooks": {
            name: [len(getattr(m, hooks)) for hooks in vars(m) if hooks.endswith("_hooks")]
            for name, m in model.named_modules()
        },
        "config": copy.deepcopy(model.config.to_dict()),
        "logits": logits(model),
    }


def same(before: dict, after: dict) -> bool:
    tensors = before.pop("state"), after.pop("state")
    outputs = before.pop("logits"), after.pop("logits")
    assert tensors[0].keys() == tensors[1].keys()
    equal = all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    return equal and torch.equal(*outputs) and before == after


@pytest.mark.parametrize(("name", "family"), GRID)
class TestEveryMethodOnEveryFamily:
    @pytest.fixture(autouse=True)
    def attached(self, bases, name, family):
        self.model, self.before = bases[family]
        self.before = dict(self.before)
        self.method = methods()[name]()
        beside = train_new_modules(self.model, outside_the_base(self.model))
        self.parts = [self.method.attach(self.model), beside]
        self.trained = {p: t for part in self.parts for p, t in part.trainable.items()}
        yield
        for part in self.parts:
            part.detach()
        assert same(self.before, fingerprint(self.model)), "detach left something behind"

    def test_starts_as_the_base(self):
        equal = torch.equal(self.before["logits"], logits(self.model))
        assert equal or not self.method.identity_at_init

    def test_every_trained_weight_has_its_path_and_nothing_else_is_trainable(self):
        there = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        assert self.trained.keys() == there.keys()
        assert all(self.trained[name] is there[name] for name in there)
        assert all(p.dtype == torch.float32 for p in self.trained.values())

    def test_gradients_reach_every_trained_weight_and_a_step_changes_only_those(self):
        randomise(self.parts)
        before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        loss(self.model).backward()
        for name, parameter in self.model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
        # A bias of the keys cancels in the softmax: its gradient is zero but for rounding.
        still = {name for name, p in self.trained.items() if p.grad.abs().max() < 1e-7}
        keys = {"key", "k_lin", "k_proj", "key_proj", "pos_key_proj"}
        assert {name.rpartition(".")[2] for name in still} <= {"bias"}, still
        assert {name.split(".")[-2] for name in still} <= keys, still
        groups = self.method.param_groups(self.parts[0], 0.1)
        groups += [{"params": list(self.parts[1].trainable.values()), "lr": 0.1}]
        torch.optim.SGD([g for g in groups if g["params"]]).step()
        after = self.model.state_dict()
        changed = {name for name in after if not torch.equal(before[name], after[name])}
        aliases = {
            name
            for name, p in self.model.named_parameters(remove_duplicate=False)
            if p.requires_grad
        }
        assert self.trained.keys() - still <= changed <= aliases

    def test_the_head_is_trained_whatever_the_method(self):
        head = head_path(self.model)
        assert any(path.startswith(f"{head}.") for path in self.trained)

    def test_merged_equals_unmerged(self, family):
        randomise(self.parts)
        plain = FAMILIES[family](HEAD, 1)[0]
        plain.load_state_dict(merged_state(self.model, self.parts))
        torch.testing.assert_close(logits(plain), logits(self.model), rtol=0, atol=1e-5)

    def test_saved_and_loaded_is_the_same_bit_for_bit(self, tmp_path, family):
        randomise(self.parts)
        manifest = Manifest(method=describe_method(self.method))
        written = save_adapter(tmp_path / "adapter", self.model, self.parts, manifest)
        again = FAMILIES[family](HEAD, 0)[0]
        state = torch.get_rng_state()
        parts, read = load_adapter(tmp_path / "adapter", again, None)
        assert torch.equal(state, torch.get_rng_state()), "loading drew random numbers"
        assert read == written
        loaded = {p: t for part in parts for p, t in part.trainable.items()}
        assert loaded.keys() == self.trained.keys()
        assert all(torch.equal(loaded[p], self.trained[p]) for p in loaded)
        assert torch.equal(logits(again), logits(self.model))

    def test_the_count_of_trained_weights_is_the_formula(self, name):
        if name not in FORMULAS:
            pytest.skip("no formula is given for this method")
        counted = sum(p.numel() for p in self.parts[0].trainable.values())
        for part in self.parts:
            part.detach()
        assert counted == FORMULAS[name](self.model)


def lora_count(model: nn.Module) -> int:
    """rank * (in + out) for every linear layer of the blocks, and of a pooler behind them."""
    inside = [
        layer.weight.shape
        for path, layer in linears(model).items()
        if any(part.isdigit() for part in path.split("."))
        or path.startswith(f"{model.base_model_prefix}.pooler")
    ]
    return sum(8 * (rows + columns) for rows, columns in inside)


FORMULAS = {
    "lora": lora_count,
    "full": lambda model: (
        sum(p.numel() for p in model.parameters())
        - sum(
            p.numel() for m in outside_the_base(model) for p in model.get_submodule(m).parameters()
        )
    ),
    "head": lambda model: 0,  # its weights are counted beside it
}
