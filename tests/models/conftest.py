"""A model host on this machine: speaks the hub's and ModelScope's file interfaces."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from lightune import network

COMMIT = "c0ffee"


class Host:
    """Serves the folders in `models`, `{id: folder}`, and counts what it is asked.

    Attributes:
        break_after: bytes after which each answer breaks off, once per file; None never.
        lie: added to the weights' bytes, while the published hash stays.
        tokens: `Authorization` headers by path.
        redirect: another host's address, to which downloads are sent on.
        ranges: the `Range` headers that came.
    """

    def __init__(self) -> None:
        self.models: dict[str, Path] = {}
        self.asked: list[str] = []
        self.tokens: dict[str, str | None] = {}
        self.break_after: int | None = None
        self.lie = b""
        self.redirect = ""
        self.broken: set[str] = set()
        self.ranges: list[str] = []
        self.url = ""

    def files(self, model_id: str) -> list[tuple[str, bytes]]:
        folder = self.models[model_id]
        return [(p.name, p.read_bytes()) for p in sorted(folder.iterdir()) if p.is_file()]


def _answer(host: Host, handler: BaseHTTPRequestHandler) -> None:
    parts = urlsplit(handler.path)
    query = {key: values[0] for key, values in parse_qs(parts.query).items()}
    path = unquote(parts.path)
    host.asked.append(handler.path)
    host.tokens[path] = handler.headers.get("Authorization")
    for model_id in host.models:
        hashes = [(n, len(d), hashlib.sha256(d).hexdigest()) for n, d in host.files(model_id)]
        if path.startswith(f"/api/models/{model_id}/revision/"):
            siblings = [{"rfilename": n, "size": s, "lfs": {"sha256": h}} for n, s, h in hashes]
            return _send(handler, json.dumps({"sha": COMMIT, "siblings": siblings}).encode())
        if path == f"/api/v1/models/{model_id}/repo/files":
            listed = [{"Path": n, "Size": s, "Sha256": h, "Type": "blob"} for n, s, h in hashes]
            return _send(handler, json.dumps({"Code": 200, "Data": {"Files": listed}}).encode())
        name = ""
        if path.startswith(f"/{model_id}/resolve/{COMMIT}/"):
            name = path.rpartition("/")[2]
        elif path == f"/api/v1/models/{model_id}/repo":
            name = query["FilePath"]
        if name:
            if host.redirect:
                handler.send_response(302)
                handler.send_header("Location", host.redirect + handler.path)
                handler.end_headers()
                return None
            return _send_file(host, handler, name, dict(host.files(model_id))[name])
    handler.send_error(404)
    return None


def _send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def _send_file(host: Host, handler: BaseHTTPRequestHandler, name: str, body: bytes) -> None:
    if name.endswith(".safetensors") and host.lie:
        body = body[: -len(host.lie)] + host.lie
    if asked := handler.headers.get("Range"):
        host.ranges.append(asked)
    start = int((handler.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
    handler.send_response(206 if start else 200)
    handler.send_header("Content-Length", str(len(body) - start))
    handler.end_headers()
    stop = len(body)
    if host.break_after is not None and name not in host.broken:
        host.broken.add(name)
        stop = start + host.break_after
    handler.wfile.write(body[start:stop])


@pytest.fixture
def make_host(monkeypatch) -> Iterator:
    """Return a function that starts a host; all are stopped at the end of the test."""
    monkeypatch.setattr(network, "_answers", {})
    servers = []

    def make() -> Host:
        host = Host()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                _answer(host, self)

            def do_HEAD(self) -> None:
                host.asked.append(f"HEAD {self.path}")
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        host.url = f"http://127.0.0.1:{server.server_port}"
        return host

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def alone(monkeypatch, tmp_path) -> Path:
    """An empty cache, and every source unreachable; returns the cache's home."""
    monkeypatch.setattr(network, "_answers", {})
    home = tmp_path / "home"
    monkeypatch.setenv("LIGHTUNE_HOME", str(home))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port: nobody listens
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HF_HUB_ETAG_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    return home
