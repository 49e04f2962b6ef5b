"""What a base model is known by: its name, where it came from, and hashes of weights and tokenizer.

Why:        an adapter fits one base and one tokenizer; these are what it is compared by.
Cost:       every tensor is read once, and the whole vocabulary written down: a good part of a
            second for a small model, so that who asks often keeps the answer.
Not here:   what a manifest holds beside it (`manifest.py`), the hash of tensors (`models/`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from lightune.adapters.manifest import BaseModelId
from lightune.models.catalogue import catalogue
from lightune.models.load import Base
from lightune.models.naming import understand


def identity_of(base: Base) -> BaseModelId:
    """Return what a base model is known by, as it was loaded."""
    return BaseModelId(
        name=base.name,
        source=loadable_name(base.name),
        # a package's version is no revision of the hub model it carries
        revision="" if base.source.startswith("package ") else base.revision,
        tensors_sha256=base.hash(),
        tokenizer_sha256=tokenizer_hash(base.tokenizer),
    )


def loadable_name(name: str) -> str:
    """Return what other libraries can load: the hub id of a catalogue name, or the folder."""
    meant = understand(name, catalogue())
    if meant.kind != "catalogue":
        return meant.id
    return next((s.id for s in catalogue()[meant.id].sources if s.kind == "hub"), name)


def tokenizer_hash(tokenizer: Any) -> str:
    """Return a fingerprint of all that decides which ids a text becomes.

    Truncation and padding are left out: they are set anew at every call.
    """
    words = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    parts = [words, sorted(map(str, tokenizer.all_special_tokens)), tokenizer.model_input_names]
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        rules = json.loads(fast.to_str())
        parts += [
            rules[name] for name in ("normalizer", "pre_tokenizer", "post_processor", "model")
        ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
