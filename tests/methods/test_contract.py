"""What every method promises, on every kind of model. A new method is tested without editing this.

Each pair is attached as the pipeline does, with the modules beside it. Trainables are randomised
first where a zero start would hide a missing gradient.
"""

import pytest
import torch

from lightune.adapters.merge import merged_state
from lightune.errors import AdapterError, MethodError
from lightune.methods.capabilities import capabilities
from lightune.nn.surgery import head_path
from tests.methods.formulas import FORMULAS
from tests.methods.grid import (
    IMPOSSIBLE,
    POSSIBLE,
    attached,
    base,
    differences,
    fingerprint,
    loss,
    output,
    over,
    own_tests,
    randomise,
    trained,
)


@over(POSSIBLE)
class TestEveryMethodOnEveryKind:
    @pytest.fixture(autouse=True)
    def pair(self, case):
        self.model, self.before = base(case.kind)
        with attached(case, self.model) as self.parts:
            self.trained = trained(self.parts)
            yield
        wrong = differences(self.before, fingerprint(self.model, case.kind))
        assert not wrong, f"detach left something behind: {wrong}"

    def test_starts_as_the_base_and_trains_what_it_says(self, case):
        if case.method.identity_at_init:
            assert torch.equal(self.before["output"], output(self.model, case.kind))
        there = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        assert self.trained.keys() == there.keys()
        assert all(self.trained[name] is there[name] for name in there)
        assert all(p.dtype == torch.float32 for p in self.trained.values())
        assert self.trained or case.kind.classifies
        if case.kind.classifies:
            head = head_path(self.model)
            assert any(path.startswith(f"{head}.") for path in self.trained)

    def test_gradients_reach_every_trained_weight_and_a_step_changes_only_those(self, case):
        randomise(self.parts)
        before = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        loss(self.model, case.kind).backward()
        for name, parameter in self.model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
        # A bias of the keys cancels in the softmax: its gradient is zero but for rounding.
        still = {name for name in self.trained if is_bias_of_keys(name)}
        lost = [name for name, p in self.trained.items() if not p.grad.any() and name not in still]
        assert not lost, lost
        # Tiny models look at all words alike, so what only moves attention has tiny gradients.
        rate = 1e4
        groups = case.method.param_groups(self.parts[0], rate)
        in_groups = {id(p) for group in groups for p in group["params"]}
        assert in_groups == {id(p) for p in self.parts[0].trainable.values()}
        groups += [{"params": list(self.parts[1].trainable.values()), "lr": rate}]
        torch.optim.SGD([g for g in groups if g["params"]]).step()
        after = self.model.state_dict()
        changed = {name for name in after if not torch.equal(before[name], after[name])}
        aliases = {
            name
            for name, p in self.model.named_parameters(remove_duplicate=False)
            if p.requires_grad
        }
        assert self.trained.keys() - still <= changed <= aliases

    def test_merged_equals_unmerged_or_is_refused(self, case):
        randomise(self.parts)
        plain = case.kind.build(seed=1)
        known = capabilities().get(case.method.name) if case.method == type(case.method)() else None
        try:
            merged, refused = merged_state(self.model, self.parts), None
        except AdapterError as error:
            merged, refused = {}, error
        assert known is None or known["merges"] == (refused is None), refused
        if refused:
            assert "cannot be merged" in refused.problem
            assert refused.mend
            return
        plain.load_state_dict(merged)
        unmerged = output(self.model, case.kind)
        size = max(1.0, unmerged.abs().max().item())
        torch.testing.assert_close(output(plain, case.kind), unmerged, rtol=0, atol=1e-5 * size)

    def test_the_count_of_trained_weights_is_the_formula(self, case):
        own = getattr(own_tests(case.method.name), "trained_weights", None)
        formula = FORMULAS.get(case.method.name, own)
        if formula is None or case.method != type(case.method)():
            pytest.skip("its test file gives no formula for these settings")
        counted = sum(p.numel() for p in self.parts[0].trainable.values())
        for part in self.parts:
            part.detach()
        assert counted == formula(self.model)


def is_bias_of_keys(name: str) -> bool:
    parts = name.split(".")
    return parts[-1] == "bias" and parts[-2] in {
        "key",
        "k_lin",
        "k_proj",
        "key_proj",
        "pos_key_proj",
    }


@over(IMPOSSIBLE)
def test_what_is_impossible_is_refused_with_the_reason_and_without_a_trace(case):
    model, before = base(case.kind)
    with pytest.raises(MethodError) as error, attached(case, model):
        pass
    assert str(error.value.problem) == case.refused
    assert error.value.found
    assert error.value.mend
    assert differences(before, fingerprint(model, case.kind)) == []
