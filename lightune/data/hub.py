"""Data sets of the Hugging Face hub, and splits of a `DatasetDict`.

Address:    `hf:org/name`, `hf:org/name:config`, and `#split` behind either; a plain `org/name`
            works where no such folder exists.
Invariants: no code of a data set runs (`datasets` ≥ 4 has no loading scripts). A hub that cannot
            be reached costs seconds, and what was fetched before is read all the same.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightune import network
from lightune.data.frames import read_frame
from lightune.data.table import Table
from lightune.errors import DataError

_ADDRESS = re.compile(r"(?:hf:)?([\w.-]+/[\w.-]+|(?<=hf:)[\w.-]+)(?::([\w.-]+))?(?:#([\w.-]+))?")

ROLES = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "valid", "dev", "val", "devel"),
}
"""Names that splits and files go by, for each role."""


def is_address(source: str) -> bool:
    """Whether `source` is written as a hub data set."""
    return _ADDRESS.fullmatch(source) is not None


@lru_cache(maxsize=4)  # one run asks several times: for its train, test and validation splits
def open_hub(address: str, revision: str | None) -> tuple[Any, str | None]:
    """Return the `DatasetDict` at `address`, and the split that the address names.

    Raises:
        DataError: it does not exist, cannot be reached, or needs a config.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        raise DataError(
            f"{address}: is not the address of a hub data set",
            found=repr(address),
            mend="`hf:org/name`, `hf:org/name:config` or `hf:org/name#split`",
        )
    name, config, split = match.groups()
    if reason := network.why_no_hub():
        _check_fetched(address, name, reason)
    elif not address.startswith("hf:"):
        _check_exists(name, revision)
    import datasets
    from huggingface_hub.errors import HTTPError

    try:
        return datasets.load_dataset(name, config, revision=revision), split
    except (
        OSError,
        ValueError,
        RuntimeError,
        HTTPError,
        datasets.exceptions.DatasetsError,
    ) as error:
        raise DataError(
            f"{address}: the hub data set cannot be loaded",
            found=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}",
            mend="check the address and the network; a data set with configs needs one: "
            f"`hf:{name}:CONFIG`; a mirror is set by HF_ENDPOINT",
        ) from None


def _check_fetched(address: str, name: str, reason: str) -> None:
    """Refuse a data set that is not in the cache of `datasets` while the hub is out of reach.

    `datasets` itself would find it missing only after many retries.
    """
    import datasets

    fetched = Path(datasets.config.HF_DATASETS_CACHE) / name.replace("/", "___")
    if not address.startswith("hf:"):
        raise DataError(
            f"{name}: no such file or folder, and as a hub data set it cannot be fetched",
            found=reason,
            mend=f"check the path; for a hub data set that was fetched before: `hf:{name}`",
        )
    if not fetched.is_dir():
        raise DataError(
            f"{address}: the hub cannot be reached, and the data set was not fetched before",
            found=f"{reason}; nothing in {fetched}",
            mend="name a file instead, or a mirror of the hub: HF_ENDPOINT=https://…",
        )


def _check_exists(name: str, revision: str | None) -> None:
    """Ask the hub briefly whether a plain `org/name` is one of its own: it may be a mistyped path,
    for which nobody should wait through retries."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError

    try:
        HfApi().dataset_info(name, revision=revision, timeout=5)
    except (OSError, ValueError, HTTPError) as error:
        reason = str(error).strip().splitlines()
        raise DataError(
            f"{name}: neither a file or folder here nor a data set that the hub gave",
            found=f"the hub said: {type(error).__name__}: {reason[0] if reason else ''}",
            mend=f"check the path; for a hub data set that was fetched before: `hf:{name}`",
        ) from None


def split_for(names: list[str], role: str, file: str, asked: str | None) -> str:
    """Return which of a data set's splits plays `role`.

    Args:
        asked: a split named by the user.

    Raises:
        DataError: there is none.
    """
    wanted = (asked,) if asked else ROLES[role]
    for name in wanted:
        if name in names:
            return name
    if not asked and len(names) == 1:
        return names[0]
    raise DataError(
        f"{file}: has no split {wanted[0]!r}",
        found=f"splits: {', '.join(names)}",
        mend=f"`data: {{split: {names[0]}}}`"
        if role == "train"
        else f"name one behind the address: `#{names[0]}`",
    )


def read_split(splits: Any, file: str, split: str) -> Table:
    """Return the rows of one split of a `DatasetDict`."""
    return read_frame(splits[split], f"{file}#{split}")
