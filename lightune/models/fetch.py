"""Files over HTTP, for the hub and ModelScope alike: quick to give up, able to go on.

Why:        on a closed network a source that does not answer must cost seconds, once, and the
            next source is asked; on a bad network a long download must go on where it broke off.
Errors:     `Unavailable` with the reason in one line. Errors of writing pass through.
Not here:   whether a host answers at all, and how URLs are opened (`lightune/network.py`).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request

from lightune import network
from lightune.errors import ModelError

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are there, and the bytes in all (None: not known)."""

_CHUNK = 1 << 20
_STALL_S = 30.0  # a download without a byte for so long is broken off
_ATTEMPTS = 4  # in a row without progress


class Unavailable(ModelError):
    """One source cannot give the model; the next is asked. `problem` is the reason."""


def require_reachable(endpoint: str) -> None:
    """Return when the host answers at all.

    Raises:
        Unavailable: it does not.
    """
    if reason := network.why_unreachable(endpoint):
        raise Unavailable(reason)


def get_json(url: str, headers: Mapping[str, str]) -> Any:
    """Return the JSON that `url` answers.

    Raises:
        Unavailable: with the status or the reason.
    """
    try:
        with network.opener().open(
            _request(url, headers), timeout=3 * network.limit_s()
        ) as response:
            return json.loads(response.read())
    except HTTPError as error:
        with error:
            raise Unavailable(_status(error.code)) from None
    except (OSError, HTTPException) as error:
        raise Unavailable(network.reason_of(error)) from None
    except ValueError:
        raise Unavailable("the answer is not JSON") from None


def download(
    url: str, target: Path, size: int | None, headers: Mapping[str, str], progress: Progress
) -> str:
    """Fetch a file and return its SHA-256.

    Args:
        size: bytes it must have; None where not known.

    Raises:
        Unavailable: it broke off several times without progress, or is not there.
    """
    digest, done, failures = hashlib.sha256(), 0, 0
    with target.open("wb") as file:
        while True:
            before = done
            request = _request(url, headers)
            if done:
                request.add_header("Range", f"bytes={done}-")
            try:
                response = network.opener().open(request, timeout=_STALL_S)
            except HTTPError as error:
                with error:
                    if error.code < 500:
                        raise Unavailable(f"{target.name}: {_status(error.code)}") from None
                    reason = _status(error.code)
            except (OSError, HTTPException) as error:
                reason = network.reason_of(error)
            else:
                with response:
                    if done and response.status != 206:  # the host cannot go on: from the start
                        digest, done = hashlib.sha256(), 0
                        file.seek(0)
                        file.truncate()
                    length = response.headers.get("Content-Length")
                    whole = done + int(length) if length and length.isdigit() else size
                    broke = False
                    while True:
                        try:
                            chunk = response.read(_CHUNK)
                        except (OSError, HTTPException):
                            broke = True
                            break
                        if not chunk:
                            break
                        file.write(chunk)
                        digest.update(chunk)
                        done += len(chunk)
                        progress(target.name, done, whole)
                if not broke and (whole is None or done >= whole):
                    break
                reason = f"broke off after {done:,} bytes"
            failures = 0 if done > before else failures + 1
            if failures >= _ATTEMPTS:
                raise Unavailable(f"{target.name}: {reason}")
    if size is not None and done != size:
        raise Unavailable(f"{target.name}: {done:,} bytes instead of {size:,}")
    return digest.hexdigest()


def _request(url: str, headers: Mapping[str, str]) -> Request:
    return Request(url, headers={"User-Agent": "lightune", **headers})


def _status(code: int) -> str:
    meaning = {
        401: "no such model there, or it is private (log in with `hf auth login`)",
        403: "access must be asked for on its page, and a login is needed",
        404: "no such model, revision or file there",
        429: "too many requests",
    }.get(code, "the host failed" if code >= 500 else "refused")
    return f"HTTP {code}: {meaning}"
