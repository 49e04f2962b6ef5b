"""What all tests share: the real base model, fetched once into the user's own cache."""

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
