"""What all tests share: the real base model, fetched once into the user's cache, and tiny ones."""

from functools import cache
from pathlib import Path

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
    """Return a function from a family to the folder of its tiny random model.

    `llama-lm` and `bart-seq2seq` are whole language models, the others have no head.
    """
    from lightune.models.tiny import save_tiny
    from lightune.types import HeadSpec

    there = tmp_path_factory.mktemp("tiny")
    heads = {"lm": HeadSpec("causal_lm"), "seq2seq": HeadSpec("seq2seq_lm")}

    def save(name: str) -> Path:
        family, _, form = name.partition("-")
        return save_tiny(there / name, family, heads.get(form))

    return cache(save)


@pytest.fixture(scope="session", autouse=True)
def unsealed():
    """Train without sealing, which takes a new process; `test_seal.py` puts it back."""
    from lightune import pipeline

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "seal_run", lambda *arguments: None)
        yield
