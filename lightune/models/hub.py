"""Models from the Hugging Face hub, or its mirror by `HF_ENDPOINT`.

Why:        our own few requests instead of `snapshot_download`: an unreachable hub must cost
            seconds, only the files a model needs are wanted, and pickles are refused unseen.
Respected:  `HF_ENDPOINT`, `HF_HUB_OFFLINE` (and `TRANSFORMERS_OFFLINE`), the login token, and the
            hub's own cache: what other programs have fetched is used where it lies.
"""

from pathlib import Path
from urllib.parse import quote

import huggingface_hub
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from lightune import network
from lightune.errors import ModelError
from lightune.models import fetch
from lightune.models.fetch import Progress, Unavailable
from lightune.models.folder import SUPPORT_FILES, check_folder, weight_files
from lightune.models.store import Copy, need_space, weights_hash


def from_hub_cache(model_id: str, revision: str, sha256: str) -> Copy | None:
    """Return a whole copy in the hub's own cache, or None.

    Args:
        revision: branch, tag or commit; empty for `main`.
        sha256: what the weights must be; empty where not known.
    """
    try:
        folder = Path(
            huggingface_hub.snapshot_download(
                model_id, revision=revision or None, local_files_only=True
            )
        )
        weights = check_folder(folder)
    except (LocalEntryNotFoundError, HFValidationError, ModelError):
        return None
    found = weights_hash(weights)
    if sha256 and found != sha256:
        return None
    return Copy(folder, f"{model_id} in the hub's cache", folder.name, found)


def from_hub(model_id: str, revision: str, sha256: str, staged: Path, progress: Progress) -> Copy:
    """Fetch a model into `staged`.

    Raises:
        Unavailable: the hub cannot be reached, has no such model, or has other weights.
        ModelError: the model has no safetensors weights.
    """
    if reason := network.why_no_hub():
        raise Unavailable(reason)
    endpoint = network.hub_endpoint()
    token = huggingface_hub.get_token()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    branch = quote(revision or "main", safe="")
    about = fetch.get_json(
        f"{endpoint}/api/models/{model_id}/revision/{branch}?blobs=true", headers
    )
    try:
        commit = str(about["sha"])
        files = {file["rfilename"]: file for file in about["siblings"]}
        sizes = {name: file.get("size") for name, file in files.items()}
        hashes = {name: (file.get("lfs") or {}).get("sha256", "") for name, file in files.items()}
    except (LookupError, TypeError, AttributeError):
        raise Unavailable(f"{endpoint} answers as no model hub does") from None
    top = [name for name in files if "/" not in name]
    weights = weight_files(top, model_id)
    if sha256:  # before a byte is fetched
        require_hash(weights[0], hashes[weights[0]] if len(weights) == 1 else "", sha256)
    wanted = [name for name in top if name in SUPPORT_FILES] + weights
    need_space(staged, sum(sizes[name] or 0 for name in wanted))
    for name in wanted:
        url = f"{endpoint}/{model_id}/resolve/{commit}/{quote(name)}"
        found = fetch.download(url, staged / name, sizes[name], headers, progress)
        if hashes[name]:
            require_hash(name, found, hashes[name])
    found = weights_hash(check_folder(staged))
    if sha256:
        require_hash(weights[0], found, sha256)
    return Copy(staged, model_id, commit, found)


def require_hash(name: str, found: str, expected: str) -> None:
    """Refuse bytes that are not the expected ones.

    Raises:
        Unavailable: the hashes differ.
    """
    if found != expected:
        raise Unavailable(
            f"hash mismatch: {name} is {found[:12] or 'in several parts'} …, "
            f"expected {expected[:12]} …"
        )
