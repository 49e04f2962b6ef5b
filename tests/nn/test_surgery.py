"""Surgery takes every change back, in whatever order modules, copies, flags and modes changed."""

import torch
from torch import nn

from lightune.nn.surgery import Surgery, block_paths, shortest_ends


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Dropout(), nn.Linear(4, 2)).requires_grad_(False)


def test_undo_restores_objects_flags_modes_and_hooks():
    m = model()
    m[1].eval()
    m[2].bias.requires_grad_(True)
    before = {name: id(p) for name, p in m.named_parameters()}
    flags = {name: p.requires_grad for name, p in m.named_parameters()}
    modes = [part.training for part in m.modules()]
    originals = list(m)

    surgery = Surgery(m)
    surgery.swap_in_copies(["0.weight"])
    surgery.replace("2", nn.Linear(4, 2))
    surgery.remember(m[0].register_forward_hook(lambda *_: None).remove)
    m[0].bias.requires_grad_(True)
    originals[2].bias.requires_grad_(False)
    m.train()
    surgery.undo()

    assert all(now is then for now, then in zip(m, originals, strict=True))
    assert {name: id(p) for name, p in m.named_parameters()} == before
    assert {name: p.requires_grad for name, p in m.named_parameters()} == flags
    assert [part.training for part in m.modules()] == modes
    assert not m[0]._forward_hooks
    surgery.undo()  # again does nothing
    assert {name: id(p) for name, p in m.named_parameters()} == before


def test_copies_of_tied_weights_are_one_and_the_base_is_not_written():
    m = model()
    m[2] = nn.Linear(4, 4, bias=False)
    m[2].weight = m[0].weight
    old, value = m[0].weight, m[0].weight.clone()
    surgery = Surgery(m)
    copies = surgery.swap_in_copies(["0.weight", "2.weight"])
    assert list(copies) == ["0.weight"]
    assert m[0].weight is m[2].weight is copies["0.weight"]
    with torch.no_grad():
        copies["0.weight"].zero_()
    surgery.undo()
    assert m[0].weight is m[2].weight is old
    assert torch.equal(old, value)


def test_what_stood_there_is_remembered_by_path():
    m = model()
    first, surgery = m[0], Surgery(m)
    surgery.replace("0", nn.Linear(4, 4))
    surgery.replace("0", nn.Linear(4, 4))
    assert surgery.replaced == {"0": first}


def test_nested_lists_of_blocks_count_by_their_outermost_element():
    m = nn.Module()
    inner = nn.Module()
    inner.experts = nn.ModuleList([nn.Linear(2, 2)])
    m.layers = nn.ModuleList([inner, nn.Linear(2, 2)])
    assert block_paths(m) == ["layers.0", "layers.1"]


def test_ends_are_as_short_as_they_can_be_and_no_shorter():
    m = nn.ModuleDict(
        {
            "a": nn.ModuleDict({"dense": nn.Linear(2, 2), "query": nn.Linear(2, 2)}),
            "pooler": nn.ModuleDict({"dense": nn.Linear(2, 2)}),
        }
    )
    assert shortest_ends(m, ["a.dense", "a.query"]) == ["a.dense", "query"]
    assert shortest_ends(m, ["a.dense", "pooler.dense"]) == ["dense"]
