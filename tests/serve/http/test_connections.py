"""Connections whose clients take too much: too many, too many requests, or responses that nobody reads."""

from __future__ import annotations

import json
import logging
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from keras_peft.serve.http.connections import Connections, free_descriptors
from keras_peft.serve.settings import ServeSettings
from serve.fake import Running, Service, running

BODY = json.dumps({"inputs": "a", "adapter_id": "single"}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(BODY)
LARGE = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
PROBE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
RESET = struct.pack("ii", 1, 0)


@contextmanager
def connected(server: Running) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        yield line


def ask(server: Running, data: bytes) -> bytes:
    """Sends bytes and returns everything received until the server closes the connection."""
    with connected(server) as line:
        line.sendall(data)
        return everything(line)


def everything(line: socket.socket) -> bytes:
    came = b""
    while chunk := line.recv(65536):
        came += chunk
    return came


def statuses(came: bytes) -> list[bytes]:
    return re.findall(rb"HTTP/1\.1 (\d{3}) ", came)


def until(check: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_client_that_does_not_read_is_let_go():
    with (
        running(Service(), write_timeout_s=0.2, idle_timeout_s=600, max_pipelined=10_000) as server,
        ExitStack() as stack,
    ):
        for _ in range(3):
            line = stack.enter_context(socket.socket())
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.connect(("127.0.0.1", server.port))
            line.sendall(LARGE * 500)
        until(lambda: len(server.server.limits) == 3)
        until(lambda: not server.server.limits)
        until(lambda: not server.server.server_state.tasks)
        assert statuses(ask(server, PROBE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))) == [b"200"]


def test_a_client_that_reads_slowly_gets_everything():
    with running(Service(), write_timeout_s=5, max_pipelined=100) as server, connected(server) as line:
        line.sendall(LARGE * 20 + b"no HTTP\r\n\r\n")
        came = b""
        while chunk := line.recv(100_000):
            came += chunk
            time.sleep(0.001)
        assert statuses(came) == [b"200"] * 20


def test_more_pipelined_requests_than_allowed_are_not_read():
    service = Service()
    with running(service, max_pipelined=3) as server:
        came = ask(server, (HEAD + BODY) * 50)
        assert statuses(came) == [b"200"] * 4
        # The last response says so.
        *earlier, last = came.split(b"HTTP/1.1 ")[1:]
        assert b"connection: close" in last
        assert not any(b"connection: close" in one for one in earlier)
        assert service.answered == 4


@pytest.mark.parametrize(
    "bad",
    [b"no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", HEAD[:-4] + b"0\r\n: \r\n\r\n"],
)
def test_a_bad_request_does_not_overtake_the_response_before_it(bad):
    with running(Service(seconds=0.2)) as server:
        assert statuses(ask(server, HEAD + BODY + bad)) == [b"200"]
        assert statuses(ask(server, bad)) == [b"400"]


def test_a_bad_body_ends_the_connection():
    chunked = (
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\nzz\r\n"
    )
    with running(Service(seconds=0.2)) as server:
        assert statuses(ask(server, chunked)) == [b"400"]
        assert statuses(ask(server, HEAD + BODY + chunked)) == [b"200"]
        until(lambda: not server.server.server_state.tasks)


@pytest.mark.parametrize("hosts", [(b"localhost", b"localhost"), (b"localhost", b"evil.example")])
def test_a_request_with_two_hosts_is_refused(hosts):
    service = Service()
    lines = b"".join(b"host: %s\r\n" % host for host in hosts)
    with running(service) as server:
        came = ask(server, HEAD.replace(b"Host: localhost\r\n", lines) + BODY)
    assert statuses(came) == [b"400"]
    assert b"one Host header" in came
    assert not service.asked


def test_an_address_with_too_many_connections_gets_only_probes_until_it_closes_some():
    with (
        running(Service(), max_connections=10, max_connections_per_address=2) as server,
        ExitStack() as stack,
    ):
        lines = [stack.enter_context(connected(server)) for _ in range(2)]
        until(lambda: len(server.server.limits) == 2)
        refused = ask(server, HEAD + BODY)
        assert statuses(refused) == [b"429"]
        assert b"This address has 2 connections" in refused
        assert b"retry-after: 1" in refused
        assert statuses(ask(server, PROBE)) == [b"200"]
        lines[0].close()
        until(lambda: len(server.server.limits) == 1)
        lines[1].sendall(HEAD + BODY)
        assert lines[1].recv(65536).startswith(b"HTTP/1.1 200")


def test_probes_are_answered_however_many_connections_there_are():
    with running(Service(), max_connections=4, probe_connections=2) as server, ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(connected(server))
        assert statuses(ask(server, PROBE)) == [b"200"]
        assert statuses(ask(server, PROBE.replace(b"livez", b"readyz"))) == [b"200"]
        assert len(server.server.limits) == 2


def test_there_are_fewer_connections_than_files_that_may_be_open(monkeypatch):
    settings = ServeSettings(max_connections=1000, probe_connections=8)
    for free, most in [(5000, 1000), (100, 76), (30, 6), (3, 1), (None, 1000)]:
        monkeypatch.setattr("keras_peft.serve.http.connections.free_descriptors", lambda free=free: free)
        limits = Connections(settings)
        assert (limits.most, limits.most_per_address) == (most, (most + 1) // 2)


def test_free_descriptors_are_counted():
    before = free_descriptors()
    with socket.socket(), socket.socket():
        assert free_descriptors() == before - 2


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_an_address_is_what_one_client_has(one, other, same):
    limits = Connections(ServeSettings(max_connections=10, max_connections_per_address=1))

    class Line:
        def __init__(self, address: str) -> None:
            self.client = address, 1

    first = Line(one)
    assert limits.add(first) == ""
    assert bool(limits.add(Line(other))) == same
    limits.remove(first)
    assert limits.add(Line(one)) == ""


def test_clients_that_leave_early_are_no_errors(caplog):
    """They leave before, during and after each part of a request, gracefully and not."""
    parts = [b"", HEAD[:20], HEAD, HEAD + BODY[:5], HEAD + BODY, (HEAD + BODY) * 5, PROBE, LARGE * 20]
    caplog.set_level(logging.INFO)
    with running(Service(seconds=0.05)) as server:
        for data in parts:
            for how in ("reset", "close", "half"):
                with connected(server) as line:
                    line.sendall(data)
                    if how == "reset":
                        line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    elif how == "half":
                        line.shutdown(socket.SHUT_WR)
        until(lambda: not server.server.server_state.connections)
        until(lambda: not server.server.server_state.tasks)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []
