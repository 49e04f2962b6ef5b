"""Saved, and loaded in a fresh process: the same outputs, bit for bit, for every pair.

One process loads them all, as starting one costs more than loading them.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lightune.adapters.load import load_adapter
from lightune.adapters.manifest import Manifest, describe_method
from lightune.adapters.save import save_adapter
from tests.methods.grid import POSSIBLE, attached, base, output, over, randomise, trained

CHILD = """
import sys
from pathlib import Path
import torch
from safetensors.torch import save_file
from lightune.adapters.load import load_adapter
from lightune.models.tiny_kinds import KINDS

rows = [[5, 9, 13, 21, 7, 3], [8, 6, 30, 2, 11, 4]]
results = {}
bases = {}
for folder in sorted(Path(sys.argv[1]).iterdir()):
    kind = KINDS[folder.name.partition("-")[2]]
    model = bases.setdefault(kind.name, kind.build())
    state = torch.get_rng_state()
    parts, _ = load_adapter(folder, model, None)
    assert torch.equal(state, torch.get_rng_state()), "loading drew random numbers"
    with torch.no_grad():
        results[folder.name] = model(**kind.inputs(model, rows)).logits.contiguous()
    for part in parts:
        part.detach()
save_file(results, sys.argv[2])
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Every pair's adapter, its outputs here, and its outputs in a fresh process."""
    root = tmp_path_factory.mktemp("saved")
    adapters, here = root / "adapters", {}
    for case in POSSIBLE:
        model, _ = base(case.kind)
        try:
            with attached(case, model) as parts:
                if not trained(parts):
                    continue
                randomise(parts)
                manifest = Manifest(method=describe_method(case.method))
                save_adapter(adapters / case.id, model, parts, manifest)
                here[case.id] = output(model, case.kind)
        except pytest.skip.Exception:  # an extra is missing
            continue
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(adapters), str(root / "results.safetensors")],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return adapters, here, load_file(root / "results.safetensors")


@over(POSSIBLE)
def test_a_fresh_process_gives_the_same_bit_for_bit(case, saved):
    _, here, there = saved
    if case.id not in here:
        pytest.skip("nothing is trained, or an extra is missing")
    assert torch.equal(here[case.id], there[case.id])


@over([case for case in POSSIBLE if case.kind.name in ("bert", "gpt2-lm", "t5", "vit")])
def test_loading_and_saving_again_gives_equal_files(case, saved, tmp_path):
    adapters, here, _ = saved
    if case.id not in here:
        pytest.skip("nothing is trained, or an extra is missing")
    model, _ = base(case.kind)
    parts, manifest = load_adapter(adapters / case.id, model, None)
    save_adapter(tmp_path / "again", model, parts, manifest)
    for part in parts:
        part.detach()
    for file in (adapters / case.id).iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name
