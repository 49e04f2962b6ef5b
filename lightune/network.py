"""Whether a host answers at all: asked once per process, for seconds, before anything is fetched.

Why:        on a closed network a hub that does not answer must cost seconds, once, whoever asks:
            models and data sets alike. The libraries' own retries take half a minute, aloud.
Invariants: a host is tried once per process, for at most `limit_s()`, name look-up included. A
            login token goes only to the host it was meant for, never to where it redirects.
Not here:   downloads (`models/fetch.py`).
"""

import os
import ssl
import threading
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

_answers: dict[str, str] = {}  # endpoint -> why it cannot be reached; empty when it can


def limit_s() -> float:
    """Return how long a host may take to answer: `HF_HUB_ETAG_TIMEOUT`, by default 4 seconds."""
    try:
        return max(0.1, float(os.environ.get("HF_HUB_ETAG_TIMEOUT", "4")))
    except ValueError:
        return 4.0


def hub_endpoint() -> str:
    """Return the address of the Hugging Face hub, or of the mirror that `HF_ENDPOINT` names."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def why_no_hub() -> str:
    """Return why the hub cannot be asked; empty when it can."""
    values = (os.environ.get(name, "") for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"))
    if any(value.upper() in ("1", "ON", "YES", "TRUE") for value in values):
        return "offline: HF_HUB_OFFLINE is set"
    return why_unreachable(hub_endpoint())


def why_unreachable(endpoint: str) -> str:
    """Return why a host gives no answer at all; empty when it gives one.

    A thread asks, because neither a name look-up nor a host with many addresses keeps to a
    socket's time limit.
    """
    if urlsplit(endpoint).scheme not in ("http", "https"):
        return f"{endpoint!r} is not an http(s) address"
    if endpoint not in _answers:
        result: list[str] = []
        thread = threading.Thread(target=_knock, args=(endpoint, result), daemon=True)
        thread.start()
        thread.join(limit_s())
        _answers[endpoint] = result[0] if result else f"no answer within {limit_s():g} s"
    reason = _answers[endpoint]
    return f"offline: {urlsplit(endpoint).netloc}: {reason}" if reason else ""


def opener() -> OpenerDirector:
    """Return what opens URLs: it checks certificates, and keeps login tokens to their host."""
    context = ssl.create_default_context()
    if not context.get_ca_certs() and not os.environ.get("SSL_CERT_FILE"):
        import certifi  # comes with huggingface-hub; Python on macOS has no certificates of its own

        context.load_verify_locations(certifi.where())
    return build_opener(_KeepTokenHome(), HTTPSHandler(context=context))


def reason_of(error: BaseException) -> str:
    """Return in one line why a request failed."""
    cause = getattr(error, "reason", error)
    return "timed out" if isinstance(cause, TimeoutError) else f"{cause}".strip() or repr(cause)


class _KeepTokenHome(HTTPRedirectHandler):
    """Follows redirects; the login token is not sent to another host."""

    def redirect_request(self, req: Request, *rest: Any) -> Request | None:
        following = super().redirect_request(req, *rest)
        if following is not None and following.host != req.host:
            following.remove_header("Authorization")
        return following


def _knock(endpoint: str, result: list[str]) -> None:
    try:
        request = Request(endpoint, headers={"User-Agent": "lightune"}, method="HEAD")
        with opener().open(request, timeout=limit_s()):
            result.append("")
    except HTTPError as error:
        with error:
            result.append("")  # an answer all the same
    except (OSError, HTTPException, ValueError) as error:
        result.append(reason_of(error))
