"""The kernels in C, where this machine has what they need."""

import pytest

from lightune.nn import native


@pytest.fixture(scope="module")
def kernels(tmp_path_factory):
    found = native.load(tmp_path_factory.mktemp("kernels"))
    if found is None:
        assert "something else" not in native.missing(), native.missing()
        pytest.skip(f"no kernels on this machine: {native.missing()}")
    return found
