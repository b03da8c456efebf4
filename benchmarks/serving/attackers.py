"""Clients that attack a server, each kind in its own way and from an address of its own.

    python -m benchmarks.serving.attackers --port 8000 --seconds 60 > report.json

They run in one process that uses little CPU, since they share the cores with the server. The report has, for each
kind, how many attacks were made and how the server ended them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress

# Seconds that an attacker holds a connection, if the server does not close it before.
_PATIENCE = 60.0
# Seconds between the attacks of one kind, and the most of them at a time.
_PAUSE, _AT_ONCE = 0.2, 40
_PREDICT = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: "

Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter, random.Random], Awaitable[str]]


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    """Connects and sends nothing."""
    return await _ending(reader)


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    """Sends a header of one byte a second."""
    writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until and not reader.at_eof():
        writer.write(b"x")
        await writer.drain()
        with suppress(TimeoutError):
            return _status(await asyncio.wait_for(reader.read(64), 1.0))
    return "held"


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    """Sends requests one after the other and never reads an answer."""
    request = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 50
    writer.transport.set_write_buffer_limits(high=1 << 12)
    reader._transport.pause_reading()  # type: ignore[attr-defined]
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        writer.write(request)
        with suppress(TimeoutError):
            await asyncio.wait_for(writer.drain(), 1.0)
        await asyncio.sleep(1.0)
    return "held"


async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    """Sends random bytes."""
    writer.write(draw.randbytes(draw.randrange(1, 2000)) + b"\r\n\r\n")
    return await _ending(reader)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    """Sends a body without end."""
    writer.write(_PREDICT + b"99999999999\r\n\r\n")
    for _ in range(50):
        writer.write(b"x" * 4096)
        await writer.drain()
    return await _ending(reader)


async def malformed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    """Sends JSON that no route expects."""
    bodies = (
        b"[" * 100_000,
        b'{"inputs": 1e400}',
        b'{"inputs": "a", "adapter_id": "../../etc/passwd"}',
        b'{"inputs": "\\ud800", "adapter_id": null}',
        b'{"inputs": ["a"], "adapter_id": ["' + b'x", "' * 5000 + b'"]}',
        json.dumps({"inputs": "a\x00b\x1b[2J" * 200, "adapter_id": "nobody"}).encode(),
    )
    body = draw.choice(bodies)
    writer.write(_PREDICT + str(len(body)).encode() + b"\r\n\r\n" + body)
    return await _ending(reader)


async def smuggling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    """Sends two lengths, two hosts, or a request inside of another."""
    heads = (
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: b\r\nContent-Length: 2\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
        b"0\r\n\r\nGET /",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    )
    writer.write(draw.choice(heads))
    return await _ending(reader)


async def leaving(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> str:
    """Asks for something and leaves without waiting."""
    body = json.dumps({"inputs": "Who won the game?", "adapter_id": "lora-0"}).encode()
    writer.write(_PREDICT + str(len(body)).encode() + b"\r\n\r\n" + body)
    await writer.drain()
    writer.transport.abort()
    return "left"


KINDS: dict[str, Attack] = {
    one.__name__: one for one in (silent, slow, deaf, garbage, endless, malformed, smuggling, leaving)
}


def summary(name: str) -> str:
    """Returns what a kind of attacker does, as a phrase."""
    text = (KINDS[name].__doc__ or "").strip().rstrip(".")
    return text[0].lower() + text[1:]


async def attack(port: int, seconds: float) -> dict[str, dict[str, int]]:
    """Attacks a server with all kinds for some time.

    Args:
        port: Local port of the server.
        seconds: How long.

    Returns:
        For each kind, the number of attacks by how they ended: a status, "closed", "held" until the attacker gave up
        or the time was over, "refused" connections, or "left".
    """
    ends = {name: Counter[str]() for name in KINDS}
    until = time.monotonic() + seconds
    await asyncio.gather(
        *(
            _repeat(one, f"127.0.1.{number}", port, until, ends[name])
            for number, (name, one) in enumerate(KINDS.items(), 1)
        )
    )
    return {name: dict(counts) for name, counts in ends.items()}


async def _repeat(one: Attack, address: str, port: int, until: float, ends: Counter[str]) -> None:
    """Makes attacks of one kind from one address until the time is over."""
    draw, running = random.Random(address), set[asyncio.Task[None]]()

    async def once() -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        except OSError:
            ends["refused"] += 1
            return
        try:
            ends[await one(reader, writer, draw)] += 1
        except OSError:
            ends["closed"] += 1
        except asyncio.CancelledError:
            ends["held"] += 1
        finally:
            writer.close()

    while time.monotonic() < until:
        if len(running) < _AT_ONCE:
            task = asyncio.create_task(once())
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.sleep(_PAUSE)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def _ending(reader: asyncio.StreamReader) -> str:
    """Waits for an answer or the end of the connection."""
    try:
        return _status(await asyncio.wait_for(reader.read(64), _PATIENCE))
    except TimeoutError:
        return "held"


def _status(received: bytes) -> str:
    return received[9:12].decode() if received.startswith(b"HTTP/") else "closed"


def main() -> None:
    """Reads the command line and prints the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    began = time.process_time()
    report = asyncio.run(attack(options.port, options.seconds))
    json.dump({"attacks": report, "processor": time.process_time() - began}, sys.stdout)


if __name__ == "__main__":
    main()
