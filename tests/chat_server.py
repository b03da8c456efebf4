"""A local chat-completions server that writes labelled texts, or fails as a test specifies."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_ASKED = re.compile(r'^- (\d+) with the label "([^"]+)"', re.MULTILINE)
_SYLLABLES = [
    first + second for first in "bdfgklmnprst" for second in ("a", "e", "i", "o", "u", "ar", "en", "ol")
]


@dataclass
class Reply:
    """The server's response to a request.

    `drop` closes the connection in the middle of the body; `hang` responds only when the server stops.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    hang: bool = False


def rows_asked_for(body: dict[str, Any]) -> list[str]:
    """The label of each row that a request asks for."""
    prompt = body["messages"][0]["content"]
    return [label for count, label in _ASKED.findall(prompt) for _ in range(int(count))]


def some_text(chance: random.Random, words: int = 14) -> str:
    """A random text that resembles no other."""
    return " ".join("".join(chance.choices(_SYLLABLES, k=3)) for _ in range(words))


def dialogue(chance: random.Random) -> str:
    return f"Jon: {some_text(chance, 7)}? Sumit: {some_text(chance, 8)}."


def says(content: Any, *, finish: str = "stop", usage: dict[str, int] | None = None, **message: Any) -> Reply:
    """A response with the given content; a list is sent as rows."""
    if isinstance(content, list):
        content = json.dumps({"rows": content})
    choice = {
        "index": 0,
        "finish_reason": finish,
        "message": {"role": "assistant", "content": content} | message,
    }
    body = {"id": "chat-1", "object": "chat.completion", "choices": [choice]}
    return Reply(body=body | ({"usage": usage} if usage is not None else {}))


def good(number: int, body: dict[str, Any]) -> Reply:
    """The requested number of new rows with the requested labels."""
    chance = random.Random(number)
    speaks = "Jon:" in body["messages"][0]["content"]
    rows = [
        {"text": dialogue(chance) if speaks else some_text(chance), "label": label}
        for label in rows_asked_for(body)
    ]
    return says(rows, usage={"prompt_tokens": 100, "completion_tokens": 10 * len(rows)})


class Chat:
    """The server's address, the requests it received, and its responses.

    `script` contains the responses to the first requests; `otherwise` gives the rest.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.script: list[Reply | Callable[[int, dict[str, Any]], Reply]] = []
        self.otherwise: Callable[[int, dict[str, Any]], Reply] = good
        self.stopping = threading.Event()
        self._lock = threading.Lock()

    def reply(self, path: str, headers: dict[str, str], body: dict[str, Any]) -> Reply:
        with self._lock:
            number = len(self.requests)
            self.requests.append(body)
            self.headers.append(headers)
            self.paths.append(path)
            does = self.script[number] if number < len(self.script) else self.otherwise
        return does if isinstance(does, Reply) else does(number, body)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chat: Chat

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        reply = self.chat.reply(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
        if reply.hang:
            self.chat.stopping.wait()
            self.close_connection = True
            return
        data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for key, value in {"Content-Length": str(len(data)), **reply.headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if reply.drop:
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        self.wfile.write(data)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that were killed or closed the connection."""


@contextmanager
def chat_server() -> Iterator[Chat]:
    """Runs a server for the length of a block."""
    chat = Chat()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"chat": chat}))
    chat.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield chat
    finally:
        chat.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()
