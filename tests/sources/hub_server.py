"""A stand-in for Hugging Face's hub on this machine: the few routes that a download uses."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_right"


class _Handler(BaseHTTPRequestHandler):
    folder: Path

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, *, with_body: bool) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        parts = parts[2:] if parts[:2] == ["api", "models"] else parts
        name = "/".join(parts[:2])
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if name == "org/broken":
            return self._send(503, b"later", with_body)
        if name == "org/gated" and token != TOKEN:
            return self._send(403, b"gated", with_body, {"X-Error-Code": "GatedRepo"})
        if name == "org/private" and token != TOKEN:
            return self._send(404, b"no", with_body, {"X-Error-Code": "RepoNotFound"})
        if name not in ("org/open", "org/gated", "org/private"):
            return self._send(404, b"no", with_body, {"X-Error-Code": "RepoNotFound"})
        if len(parts) > 2 and parts[2] == "resolve":
            return self._file("/".join(parts[4:]), with_body)
        siblings = [{"rfilename": file.name} for file in sorted(self.folder.iterdir())]
        tree = [
            {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _sum(file)}
            for file in sorted(self.folder.iterdir())
        ]
        if len(parts) > 2 and parts[2] == "tree":
            return self._send(200, json.dumps(tree).encode(), with_body, {"Content-Type": "application/json"})
        info = {
            "id": name,
            "modelId": name,
            "sha": COMMIT,
            "siblings": siblings,
            "private": False,
            "tags": [],
        }
        info |= {"downloads": 0, "likes": 0, "gated": False, "disabled": False}
        return self._send(200, json.dumps(info).encode(), with_body, {"Content-Type": "application/json"})

    def _file(self, name: str, with_body: bool) -> None:
        path = self.folder / name
        if not path.is_file():
            return self._send(404, b"no", with_body, {"X-Error-Code": "EntryNotFound"})
        headers = {"ETag": f'"{_sum(path)}"', "X-Repo-Commit": COMMIT}
        return self._send(200, path.read_bytes(), with_body, headers)

    def _send(self, status: int, body: bytes, with_body: bool, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """Serves a folder as org/open, org/gated and org/private, and yields the address."""
    handler = type("Handler", (_Handler,), {"folder": folder})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
