"""Runs `keras-peft serve` in a separate process and sends it requests over HTTP."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
from prometheus_client.parser import text_string_to_metric_families

import keras_peft
from serve.bundles import write_bundle

ADMIN, DATA, NARROW = "a" * 24, "d" * 24, "n" * 24
PATIENCE = 60.0
COMMAND = (sys.executable, "-c", "from keras_peft.cli import main; main()")
TEXTS = ["the model and the people", "what have you", "time for the people with you"]
PAIRS = [["the model", "and people"], ["time", "for you"]]


class Served:
    """A running server.

    Attributes:
        url: Address of the server.
        root: The folder with its bundles.
        http: A client with the admin key.
    """

    def __init__(self, process: subprocess.Popen[str], url: str, root: Path, log: Path, held: Path) -> None:
        self.process, self.url, self.root, self.log, self._held = process, url, root, log, held
        self.http = httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {ADMIN}"}, timeout=PATIENCE, trust_env=False
        )

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def predict(self, name: str | Sequence[str], inputs: Any = TEXTS[0], **options: Any) -> httpx.Response:
        return self.http.post("/predict", json={"inputs": inputs, "adapter_id": name, **options})

    def load(self, name: str) -> httpx.Response:
        return self.http.post(f"/v2/repository/models/{name}/load")

    def state(self, name: str) -> dict[str, Any]:
        return self.http.get(f"/v1/adapters/{name}").raise_for_status().json()

    def statuses(self) -> dict[str, dict[str, Any]]:
        return {one["name"]: one for one in self.http.get("/v1/adapters").raise_for_status().json()["data"]}

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over its series with these labels."""
        text = self.http.get("/metrics").raise_for_status().text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"keras_peft_{name}" and labels.items() <= sample.labels.items()
        )

    def status(self, field: str) -> int:
        """A field of the process status, such as `Threads`."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))

    def memory(self, field: str = "VmRSS") -> int:
        """The memory of the process, in bytes."""
        return self.status(field) * 1024

    def forget_peak(self) -> None:
        """Resets the peak that `memory("VmHWM")` returns."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def files(self) -> int:
        """The number of open files and connections of the process."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    @contextmanager
    def holding(self, *names: str) -> Iterator[None]:
        """Blocks the computation of some adapters until the block ends."""
        for name in names:
            (self._held / name).touch()
        try:
            yield
        finally:
            for name in names:
                (self._held / name).unlink()

    def talk(self, data: bytes) -> bytes:
        """Sends raw bytes and returns everything received until the server closes the connection."""
        came = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as line:
            try:
                line.sendall(data)
                while chunk := line.recv(65536):
                    came += chunk
            except (BrokenPipeError, ConnectionResetError):
                pass
        return came


@contextmanager
def serve(
    folder: Path, root: Path, *flags: str, keys: bool = True, hung_after: float | None = None
) -> Iterator[Served]:
    """Runs a server until the block ends.

    Args:
        folder: An empty folder for the server's files.
        root: The folder with the bundles.
        flags: Flags of the command.
        keys: Whether the server has the keys of this module.
        hung_after: Seconds after which its workers count as hanging; if given, tests can block the server
            as in `holding.py`.
    """
    log, held = folder / "log", folder / "held"
    held.mkdir(parents=True)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    if keys:
        file = folder / "keys.toml"
        file.write_text(f'[[key]]\nname = "narrow"\nkey = "{NARROW}"\nadapters = ["mood"]\n')
        environment |= {"KERAS_PEFT_ADMIN_KEY": ADMIN, "KERAS_PEFT_API_KEY": DATA}
        flags = (*flags, "--keys", str(file))
    command: Sequence[str] = COMMAND
    if hung_after is not None:
        # The worker that hangs must be the only one.
        flags = (*flags, "--workers", "1")
        command = (sys.executable, str(Path(__file__).with_name("holding.py")), str(held), str(hung_after))
    with (
        log.open("w") as written,
        subprocess.Popen(
            [*command, "serve", str(root), "--port", "0", *flags],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=written,
            text=True,
        ) as process,
    ):
        try:
            first = process.stdout.readline()
            assert first.startswith("Serving"), log.read_text()
            server = Served(process, first.split()[-1], root, log, held)
            with server.http:
                yield server
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0, log.read_text()
        finally:
            process.kill()


@contextmanager
def together(most: int = 32) -> Iterator[Callable[..., Future[Any]]]:
    """Yields a function that runs calls concurrently."""
    with ThreadPoolExecutor(most) as pool:
        yield pool.submit


def until(check: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """Waits until a condition holds."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def write_all(root: Path) -> Path:
    """Writes bundles for every task and six methods."""
    write_bundle(root / "mood", seed=1)
    write_bundle(root / "news", keras_peft.IA3(), seed=2, labels=("a", "b", "c"))
    write_bundle(
        root / "topics", keras_peft.BitFit(), seed=3, task="multi-label", labels=("v", "w", "x", "y", "z")
    )
    write_bundle(
        root / "stars",
        keras_peft.methods.PfeifferAdapter(),
        seed=4,
        task="regression",
        options={"mean": 3.0, "deviation": 2.0},
    )
    write_bundle(root / "seven", keras_peft.PrefixTuning(), seed=5, labels=[f"is-{n}" for n in range(7)])
    write_bundle(root / "pairs", seed=6, task="pairs", labels=("no", "yes"))
    write_bundle(
        root / "tags", keras_peft.DoRA(rank=2), seed=7, task="token-labels", labels=("B-a", "I-a", "O")
    )
    return root


def expected(root: Path, name: str, texts: Sequence[Any]) -> list[Mapping[str, float]]:
    """The predictions of the bundle without a server, as numbers by label."""
    predictions = keras_peft.load(root / name).predict(list(texts))
    return [
        dict(one.probabilities) if hasattr(one, "probabilities") else {"value": one.value}
        for one in predictions
    ]


def by_label(scores: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """A response of `/predict` as numbers by label."""
    return {one["label"]: one["score"] for one in scores}
