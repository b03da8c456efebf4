"""A server process: start, requests, memory, load, stop."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .load import Order, Report

ROOT = Path(__file__).parent.parent.parent
_START_SECONDS = 180.0


class ServerFailed(Exception):
    """A server exited, did not become ready, or returned an error."""


class Server:
    """A local HTTP server process.

    Args:
        command: The command; `--port` and a free port are appended.
        log: File for its output.

    Example:
        >>> with Server(["keras-peft", "serve", "bundles"], log=Path("server.log")) as server:
        ...     server.ask("POST", "/predict", {"inputs": "Who won?", "adapter_id": "news"})
    """

    def __init__(self, command: Sequence[str | Path], *, log: Path) -> None:
        self._command, self._log = command, log
        self.port = _free_port()
        self.start_seconds = 0.0

    def __enter__(self) -> Self:
        began = time.perf_counter()
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*map(str, self._command), "--port", str(self.port)], stdout=log, stderr=log, env=environment
            )
        try:
            self._wait(began + _START_SECONDS)
        except BaseException:
            self._stop()
            raise
        self.start_seconds = time.perf_counter() - began
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Sends one request on a new connection and returns the JSON of the response.

        Raises:
            ServerFailed: If the status is not 200.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            return answer(connection, method, path, body)
        finally:
            connection.close()

    def memory_mb(self) -> float:
        """Returns its current memory in MiB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def under(self, order: Order) -> Report:
        """Runs the load generator with an order and returns its report.

        Raises:
            ServerFailed: If the generator failed.
        """
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.serving.load"],
            input=json.dumps(asdict(order)),
            capture_output=True,
            text=True,
            cwd=ROOT,
        )
        if ended.returncode:
            raise ServerFailed(f"The load generator failed: {ended.stderr.strip()[-500:]}")
        return Report(**json.loads(ended.stdout))

    def _wait(self, until: float) -> None:
        """Waits until the server is ready."""
        while time.perf_counter() < until:
            if self._process.poll() is not None:
                raise ServerFailed(f"It ended with exit code {self._process.returncode}.{self._said()}")
            try:
                self.ask("GET", "/readyz")
                return
            except (OSError, ServerFailed):
                time.sleep(0.05)
        raise ServerFailed(f"It was not ready after {_START_SECONDS:.0f} s.{self._said()}")

    def _said(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return "".join(f"\n  {line}" for line in lines[-8:])

    def _stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def answer(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    """Sends a request on a connection that may be reused, and returns the JSON of the response.

    Raises:
        ServerFailed: If the status is not 200.
    """
    content = None if body is None else json.dumps(body)
    connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
    response = connection.getresponse()
    said = response.read()
    if response.status != 200:
        raise ServerFailed(f"{method} {path}: {response.status} {said[:300].decode(errors='replace')}")
    return json.loads(said)


def keras_peft(folder: Path, log: Path, *flags: str) -> Server:
    """Creates a server of this package."""
    command = [sys.executable, "-c", "from keras_peft.cli import main; main()", "serve", folder, *flags]
    return Server(command, log=log)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
