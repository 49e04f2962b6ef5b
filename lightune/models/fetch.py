"""Files over HTTP, for the hub and ModelScope alike: quick to give up, able to go on.

Why:        on a closed network a source that does not answer must cost seconds, once, and the
            next source is asked; on a bad network a long download must go on where it broke off.
Invariants: a host is tried once per process, for at most `limit_s()`, name look-up included. A
            login token goes only to the host it was meant for, never to where it redirects.
Errors:     `Unavailable` with the reason in one line. Errors of writing pass through.
"""

import hashlib
import json
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from lightune.errors import ModelError

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes that are there, and the bytes in all (None: not known)."""

_CHUNK = 1 << 20
_STALL_S = 30.0  # a download without a byte for so long is broken off
_ATTEMPTS = 4  # in a row without progress
_answers: dict[str, str] = {}  # endpoint -> why it cannot be reached; empty when it can


class Unavailable(ModelError):
    """One source cannot give the model; the next is asked. `problem` is the reason."""


def limit_s() -> float:
    """Return how long a host may take to answer: `HF_HUB_ETAG_TIMEOUT`, by default 4 seconds."""
    try:
        return max(0.1, float(os.environ.get("HF_HUB_ETAG_TIMEOUT", "4")))
    except ValueError:
        return 4.0


def require_reachable(endpoint: str) -> None:
    """Return when the host answers at all.

    A thread asks, because neither a name look-up nor a host with many addresses keeps to a
    socket's time limit.

    Raises:
        Unavailable: it does not.
    """
    if urlsplit(endpoint).scheme not in ("http", "https"):
        raise Unavailable(f"{endpoint!r} is not an http(s) address")
    if endpoint not in _answers:
        result: list[str] = []
        thread = threading.Thread(target=_knock, args=(endpoint, result), daemon=True)
        thread.start()
        thread.join(limit_s())
        _answers[endpoint] = result[0] if result else f"no answer within {limit_s():g} s"
    if _answers[endpoint]:
        raise Unavailable(f"offline: {urlsplit(endpoint).netloc}: {_answers[endpoint]}")


def get_json(url: str, headers: Mapping[str, str]) -> Any:
    """Return the JSON that `url` answers.

    Raises:
        Unavailable: with the status or the reason.
    """
    try:
        with _opener().open(_request(url, headers), timeout=3 * limit_s()) as response:
            return json.loads(response.read())
    except HTTPError as error:
        with error:
            raise Unavailable(_status(error.code)) from None
    except (OSError, HTTPException) as error:
        raise Unavailable(_reason(error)) from None
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
                response = _opener().open(request, timeout=_STALL_S)
            except HTTPError as error:
                with error:
                    if error.code < 500:
                        raise Unavailable(f"{target.name}: {_status(error.code)}") from None
                    reason = _status(error.code)
            except (OSError, HTTPException) as error:
                reason = _reason(error)
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


class _KeepTokenHome(HTTPRedirectHandler):
    """Follows redirects; the login token is not sent to another host."""

    def redirect_request(self, req: Request, *rest: Any) -> Request | None:
        following = super().redirect_request(req, *rest)
        if following is not None and following.host != req.host:
            following.remove_header("Authorization")
        return following


def _opener() -> OpenerDirector:
    context = ssl.create_default_context()
    if not context.get_ca_certs() and not os.environ.get("SSL_CERT_FILE"):
        import certifi  # comes with huggingface-hub; Python on macOS has no certificates of its own

        context.load_verify_locations(certifi.where())
    return build_opener(_KeepTokenHome(), HTTPSHandler(context=context))


def _request(url: str, headers: Mapping[str, str]) -> Request:
    return Request(url, headers={"User-Agent": "lightune", **headers})


def _knock(endpoint: str, result: list[str]) -> None:
    try:
        request = Request(endpoint, headers={"User-Agent": "lightune"}, method="HEAD")
        with _opener().open(request, timeout=limit_s()):
            result.append("")
    except HTTPError as error:
        with error:
            result.append("")  # an answer all the same
    except (OSError, HTTPException, ValueError) as error:
        result.append(_reason(error))


def _status(code: int) -> str:
    meaning = {
        401: "no such model there, or it is private (log in with `hf auth login`)",
        403: "access must be asked for on its page, and a login is needed",
        404: "no such model, revision or file there",
        429: "too many requests",
    }.get(code, "the host failed" if code >= 500 else "refused")
    return f"HTTP {code}: {meaning}"


def _reason(error: BaseException) -> str:
    cause = getattr(error, "reason", error)
    return "timed out" if isinstance(cause, TimeoutError) else f"{cause}".strip() or repr(cause)
