"""What all tests share: the real base model, fetched once into the user's cache, and tiny ones."""

from functools import cache

import pytest

from lightune.errors import ModelError, ResourceError


@pytest.fixture(scope="session")
def minilm() -> str:
    """Return a name that `load` takes without a network; skip where it cannot be fetched."""
    from lightune.models.sources import resolve

    try:
        resolve("minilm")
    except (ModelError, ResourceError) as error:
        pytest.skip(f"minilm cannot be fetched: {error}")
    return "minilm"


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Return a function from a family to the folder of its tiny random model."""
    from lightune.models.tiny import save_tiny

    there = tmp_path_factory.mktemp("tiny")
    return cache(lambda family: save_tiny(there / family, family))
