"""Operators are put into groups, and all of the wall time is accounted for."""

import profile_steps
import pytest


@pytest.mark.parametrize(
    ("operator", "group"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::mkldnn_linear", "matrix products"),
        ("aten::_softmax_backward_data", "softmax and attention"),
        ("aten::native_layer_norm_backward", "normalisation"),
        ("aten::gelu_backward", "activation"),
        ("aten::add_", "sums and products by element"),
        ("aten::_fused_adamw_", "optimiser and clipping"),
        ("aten::copy_", "copies and casts"),
        ("autograd::engine::evaluate_function: AddBackward0", "autograd"),
    ],
)
def test_group_of(operator, group):
    assert profile_steps.group_of(operator).startswith(group)


def test_groups_add_up_to_the_wall_time():
    groups = profile_steps.grouped([("aten::mm", 3.0), ("aten::mm", 1.0), ("aten::add", 2.0)], 10.0)
    assert list(groups.values()) == [4.0, 4.0, 2.0]
    assert groups["matrix products"] == 4.0
