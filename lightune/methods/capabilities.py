"""Which method works on which kind of model, as found by trying: the facts behind the tables.

The file beside this one, `capabilities.json`, is written by `docs/capabilities.py`, which attaches
every method to a tiny model of every kind; nothing in it is typed by hand. The contract test holds
it to what the code does: what it calls impossible must be refused for that reason, and everything
else must work.

Needs no torch, so that the command line can show it at once.
"""

import json
from functools import cache
from importlib.resources import files
from typing import TypedDict


class Capability(TypedDict):
    """What one method can do.

    Attributes:
        works: kinds of models that it can be attached to.
        refused: `{kind: reason}` of those that it cannot.
        merges: its change can be added to the base's weights, which costs nothing afterwards.
    """

    works: list[str]
    refused: dict[str, str]
    merges: bool


@cache
def capabilities() -> dict[str, Capability]:
    """Return what was found, by method. A method of another package is not in it."""
    text = files("lightune.methods").joinpath("capabilities.json").read_text(encoding="utf-8")
    found: dict[str, Capability] = json.loads(text)
    return found
