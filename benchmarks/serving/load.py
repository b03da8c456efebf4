"""The load generator: requests over persistent connections, in a process that uses little CPU.

    python -m benchmarks.serving.load < order.json > report.json

The requests are encoded before the clock starts; the generator reads only the status line and the length of
a response. Closed loop: each connection sends its next request after the response. Open loop: requests are
due at random times at a given rate, independent of the server. Latency counts from the time at which the
request was due, so a stalled server is also charged for the requests that were due meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Seconds to wait for outstanding responses after the end of the measurement.
_GRACE = 10.0


@dataclass(frozen=True, kw_only=True)
class Order:
    """The load to generate.

    Attributes:
        port: Local port of the server.
        requests: Path, body, and the correct label if known; for several adapters, the known labels
            by adapter name.
        connections: Number of open connections.
        rate: Requests per second; None sends the next request after each response.
        seconds: Duration of the measurement.
        warm_up: Seconds of load before the measurement.
        seed: Seed of the order and the times of the requests.
        window: Length of the reported windows in seconds; 0 reports none.
    """

    port: int
    requests: list[tuple[str, str, Any]]
    connections: int
    rate: float | None = None
    seconds: float = 10.0
    warm_up: float = 2.0
    seed: int = 0
    window: float = 0.0


@dataclass
class Report:
    """The results of a load.

    Attributes:
        seconds: Duration of the measurement.
        answers: Number of responses with status 200.
        throughput: These responses per second.
        p50, p95, p99: Percentiles of their latencies, in milliseconds.
        slowest: The longest latency, in milliseconds.
        statuses: Number of responses by status; "lost" counts closed connections.
        checked: Number of responses compared with the correct label.
        wrong: Number of these with another label.
        windows: For each window: its end in seconds, its responses, its failures, and its p50 and p99.
        processor: CPU seconds of the generator itself.
    """

    seconds: float
    answers: int = 0
    throughput: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    slowest: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)
    checked: int = 0
    wrong: int = 0
    windows: list[dict[str, float]] = field(default_factory=list)
    processor: float = 0.0

    @property
    def failures(self) -> int:
        """Number of failed requests and wrong responses."""
        return sum(count for status, count in self.statuses.items() if status != "200") + self.wrong


def percentile(ordered: Sequence[float], share: float) -> float:
    """Returns the smallest value that the given share does not exceed; 0 if there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def labels_of(answer: Any) -> Any:
    """Extracts the most probable label from a response; for several adapters, the label of each."""
    if isinstance(answer, list):
        return labels_of(answer[0])
    if "label" in answer:
        return answer["label"]
    return {name: labels_of(one) for name, one in answer.items()}


def is_right(answer: Any, label: Any) -> bool:
    """Whether a response has the label; for several adapters, whether all known labels match."""
    said = labels_of(answer)
    if not isinstance(label, dict):
        return bool(said == label)
    return isinstance(said, dict) and label.items() <= said.items()


class Generator:
    """Sends the requests of an order and counts the responses."""

    def __init__(self, order: Order) -> None:
        self.order = order
        head = "POST {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
        self._requests = []
        for path, body, label in order.requests:
            content = body.encode()
            self._requests.append((head.format(path, len(content)).encode() + content, label))
        self._random = random.Random(order.seed)
        self._statuses: Counter[str] = Counter()
        self._checked = self._wrong = 0
        self._latencies = array("d")  # of successful responses; _ends has their arrival times
        self._ends = array("d")
        self._failed = array("d")
        self._waiting: deque[float] = deque()
        self._idle: deque[Connection] = deque()
        self._under_way = self._in_time = 0

    async def run(self) -> Report:
        """Sends requests until the end of the measurement.

        Raises:
            OSError: If the server cannot be reached.
        """
        loop, order = asyncio.get_running_loop(), self.order
        connections = [
            (await loop.create_connection(lambda: Connection(self), "127.0.0.1", order.port))[1]
            for _ in range(order.connections)
        ]
        self._begin = time.perf_counter() + order.warm_up
        self._end = self._begin + order.seconds
        spent = time.process_time()
        if order.rate is None:
            for connection in connections:
                self.next(connection)
        else:
            self._idle += connections
            self._due = time.perf_counter()
            self._arrive()
        await asyncio.sleep(self._end - time.perf_counter())
        while (left := self._under_way + len(self._waiting)) and time.perf_counter() < self._end + _GRACE:
            await asyncio.sleep(0.01)
        if left:
            self._statuses["lost"] += left
        spent = time.process_time() - spent
        for connection in connections:
            connection.close()
        return self._report(spent)

    def next(self, connection: Connection) -> None:
        """Assigns the next request to a free connection."""
        now = time.perf_counter()
        if self._waiting:
            self._send(connection, self._waiting.popleft())
        elif self.order.rate is not None:
            self._idle.append(connection)
        elif now < self._end:
            self._send(connection, now)

    def lost(self, connection: Connection) -> None:
        """Removes a connection that the server closed."""
        if connection in self._idle:
            self._idle.remove(connection)

    def answered(self, due: float, status: str, body: bytes | None, label: Any) -> None:
        """Counts a response."""
        now = time.perf_counter()
        self._under_way -= 1
        self._in_time += status == "200" and self._begin <= now < self._end
        if due < self._begin:
            if status != "200":
                self._statuses[f"{status} before"] += 1
            return
        self._statuses[status] += 1
        if status == "200":
            self._latencies.append(now - due)
            self._ends.append(now)
            if body is not None:
                self._checked += 1
                self._wrong += not is_right(json.loads(body), label)
        else:
            self._failed.append(now)

    def _send(self, connection: Connection, due: float) -> None:
        self._under_way += 1
        request, label = self._random.choice(self._requests)
        connection.send(request, due, label)

    def _arrive(self) -> None:
        """Sends the requests that are due, and schedules the next call."""
        now = time.perf_counter()
        while self._due <= now:
            if self._due >= self._end:
                return
            if self._idle:
                # The connection that was idle longest, so that none reaches the server's idle timeout.
                self._send(self._idle.popleft(), self._due)
            else:
                self._waiting.append(self._due)
            self._due += self._random.expovariate(self.order.rate or 1.0)
        asyncio.get_running_loop().call_later(self._due - now, self._arrive)

    def _report(self, spent: float) -> Report:
        ordered = sorted(self._latencies)
        shares = {name: percentile(ordered, share) * 1e3 for name, share in _SHARES.items()}
        return Report(
            seconds=self.order.seconds,
            answers=len(ordered),
            throughput=self._in_time / self.order.seconds,
            **shares,
            slowest=(ordered[-1] if ordered else 0.0) * 1e3,
            statuses=dict(self._statuses),
            checked=self._checked,
            wrong=self._wrong,
            windows=self._windows() if self.order.window else [],
            processor=spent,
        )

    def _windows(self) -> list[dict[str, float]]:
        length = self.order.window
        count = math.ceil(self.order.seconds / length)
        parts: list[list[float]] = [[] for _ in range(count)]
        failed = [0] * count
        for end, latency in zip(self._ends, self._latencies, strict=True):
            parts[min(count - 1, int((end - self._begin) / length))].append(latency)
        for end in self._failed:
            failed[min(count - 1, int((end - self._begin) / length))] += 1
        return [
            {
                "end": (number + 1) * length,
                "answers": len(part),
                "failures": failed[number],
                "p50": percentile(sorted(part), 0.5) * 1e3,
                "p99": percentile(sorted(part), 0.99) * 1e3,
            }
            for number, part in enumerate(parts)
        ]


_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


class Connection(asyncio.Protocol):
    """A persistent connection with at most one outstanding request."""

    def __init__(self, generator: Generator) -> None:
        self._generator = generator
        self._received = b""
        self._length = -1
        self._is_busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Stores the transport."""
        self._transport = transport

    def send(self, request: bytes, due: float, label: Any) -> None:
        """Sends a request."""
        self._due, self._label, self._is_busy = due, label, True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Collects data until the response is complete."""
        self._received = received = self._received + data if self._received else data
        if self._length < 0:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            self._body = end + 4
            self._length = self._body + _content_length(received[:end])
        if len(received) < self._length:
            return
        body = received[self._body : self._length] if self._label is not None else None
        status = received[9:12].decode()
        self._received, self._length, self._is_busy = b"", -1, False
        self._generator.answered(self._due, status, body, self._label)
        self._generator.next(self)

    def connection_lost(self, error: Exception | None) -> None:
        """Counts the outstanding request as lost; the connection is not reopened."""
        self._generator.lost(self)
        if self._is_busy:
            self._is_busy = False
            self._generator.answered(self._due, "lost", None, None)

    def close(self) -> None:
        """Closes the connection."""
        self._is_busy = False
        self._transport.close()


def _content_length(head: bytes) -> int:
    lowered = head.lower()
    start = lowered.find(b"\r\ncontent-length:")
    if start < 0:
        raise ValueError(f"An answer without a length cannot be read: {head[:200]!r}")
    return int(lowered[start + 17 :].split(b"\r\n", 1)[0])


def main() -> None:
    """Reads the order and writes the report."""
    order = Order(**json.load(sys.stdin))
    try:
        import uvloop
    except ImportError:
        report = asyncio.run(Generator(order).run())
    else:
        report = uvloop.run(Generator(order).run())
    json.dump(asdict(report), sys.stdout)


if __name__ == "__main__":
    main()
