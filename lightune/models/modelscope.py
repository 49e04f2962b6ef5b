"""Models from ModelScope, by its public file interface; `MODELSCOPE_ENDPOINT` names a mirror.

Why:        much of the field's Chinese half lives there, and its own client is a large package.
Not here:   private models: no token is sent.
"""

import os
from pathlib import Path
from urllib.parse import quote

from lightune.models import fetch
from lightune.models.fetch import Progress, Unavailable
from lightune.models.folder import SUPPORT_FILES, check_folder, weight_files
from lightune.models.hub import require_hash
from lightune.models.store import Copy, need_space, weights_hash


def from_modelscope(
    model_id: str, revision: str, sha256: str, staged: Path, progress: Progress
) -> Copy:
    """Fetch a model into `staged`.

    Args:
        revision: branch or tag; empty for `master`.
        sha256: what the weights must be; empty where not known.

    Raises:
        Unavailable: the host cannot be reached, has no such model, or has other weights.
        ModelError: the model has no safetensors weights.
    """
    host = (os.environ.get("MODELSCOPE_ENDPOINT") or "https://www.modelscope.cn").rstrip("/")
    fetch.require_reachable(host)
    branch = quote(revision or "master", safe="")
    base = f"{host}/api/v1/models/{model_id}/repo"
    answer = fetch.get_json(f"{base}/files?Revision={branch}&Recursive=false", {})
    try:
        listed = answer["Data"]["Files"]
        files = {file["Path"]: file for file in listed if file.get("Type") != "tree"}
    except (LookupError, TypeError, AttributeError):
        message = answer.get("Message") if isinstance(answer, dict) else None
        raise Unavailable(f"no such model there ({message or 'no list of files'})") from None
    top = [name for name in files if "/" not in name]
    weights = weight_files(top, f"ms:{model_id}")
    wanted = [name for name in top if name in SUPPORT_FILES] + weights
    need_space(staged, sum(files[name].get("Size") or 0 for name in wanted))
    for name in wanted:
        url = f"{base}?Revision={branch}&FilePath={quote(name, safe='')}"
        size = files[name].get("Size") or None
        found = fetch.download(url, staged / name, size, {}, progress)
        if published := files[name].get("Sha256"):
            require_hash(name, found, published)
    found = weights_hash(check_folder(staged))
    if sha256:
        require_hash(weights[0], found, sha256)
    return Copy(staged, f"ms:{model_id}", revision or "master", found)
