from __future__ import annotations

import json
import select
import socket
import time
from contextlib import ExitStack

import httpx2 as httpx
import pytest

from keras_peft.serve.http.protocol import MAX_HEADER_BYTES
from serve.fake import Service, client, running

BODY = json.dumps({"inputs": "a", "adapter_id": "single"}).encode()
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def talk(port: int, *parts: bytes, pause: float = 0.0) -> bytes:
    """Sends the parts in order and returns everything received until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as line:
        for part in parts:
            try:
                line.sendall(part)
            except (BrokenPipeError, ConnectionResetError):
                break
            time.sleep(pause)
        came = b""
        try:
            while chunk := line.recv(65536):
                came += chunk
        except ConnectionResetError:
            pass
    return came


def test_a_body_that_is_too_large_is_refused():
    with client(max_body_bytes=2000) as http:
        assert http.post("/predict", content=BODY.ljust(2000)).status_code == 200
        answer = http.post("/predict", content=BODY.ljust(2001))
        assert (answer.status_code, answer.json()["error_type"]) == (413, "validation")
        assert "2,000 bytes" in answer.json()["error"]
        # The size is counted on arrival, whatever the client declares.
        assert http.post("/predict", content=iter([BODY, b" " * 2000])).status_code == 413


def test_a_stock_client_hears_why_its_large_body_is_refused():
    with running(Service(), max_body_bytes=1_000_000) as server:
        answer = httpx.post(f"{server.url}/predict", content=BODY.ljust(3_000_000))
        assert answer.status_code == 413
        # An endless body is cut off.
        came = talk(
            server.port,
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
            *[b"80000\r\n" + b" " * 0x80000 + b"\r\n"] * 100,
        )
        assert came.startswith(b"HTTP/1.1 413") or came == b""
        # A body that is declared too large is refused without reading it.
        came = talk(server.port, HEAD + b"Content-Length: 100000000000\r\n\r\n")
        assert came.startswith(b"HTTP/1.1 413")
        came = talk(server.port, HEAD + b"Content-Length: 2000000\r\nExpect: 100-continue\r\n\r\n")
        assert came.startswith(b"HTTP/1.1 413")
        assert httpx.post(f"{server.url}/predict", content=BODY).status_code == 200


@pytest.mark.parametrize("encoding", ["gzip", "br", "GZIP", "identity, gzip"])
def test_packed_bodies_are_refused(encoding):
    with client() as http:
        answer = http.post("/predict", content=BODY, headers={"content-encoding": encoding})
        assert answer.status_code == 415
        assert "without Content-Encoding" in answer.json()["error"]
        assert (
            http.post("/predict", content=BODY, headers={"content-encoding": "identity"}).status_code == 200
        )


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("application/problem+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
def test_a_body_is_json(kind, status):
    with client() as http:
        answer = http.post("/predict", content=BODY, headers={"content-type": kind})
    assert answer.status_code == status


@pytest.mark.parametrize(
    "content", [b"", b"  ", b"{", b'{"inputs": "\xff"}', b'{"inputs": "\\ud800"}', b"[" * 100_000]
)
def test_what_is_no_json_is_malformed(content):
    with client() as http:
        answer = http.post("/predict", content=content)
    assert (answer.status_code, answer.json()["error_type"]) == (400, "validation")


def test_a_body_that_comes_too_slowly_is_given_up():
    with running(Service(), idle_timeout_s=0.2) as server:
        head = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY)
        assert talk(server.port, head + BODY[:3]).startswith(b"HTTP/1.1 408")
        # A body that arrives byte by byte is refused at the request's deadline.
    with running(Service(), idle_timeout_s=0.2, deadline_ms=300) as server:
        drops = [bytes([byte]) for byte in BODY]
        start = time.monotonic()
        assert b"HTTP/1.1 408" in talk(server.port, head, *drops, pause=0.05)
        assert time.monotonic() - start < 0.05 * len(BODY) + 5


def test_a_silent_connection_and_slow_headers_are_closed():
    with running(Service(), idle_timeout_s=0.2) as server:
        assert talk(server.port) == b""
        assert talk(server.port, b"POST /predict HTTP/1.1\r\nHost: ") == b""
        # An active connection stays open.
        with httpx.Client() as http:
            for _ in range(3):
                assert http.post(f"{server.url}/predict", content=BODY).status_code == 200
                time.sleep(0.1)


def test_headers_that_are_too_large_are_refused():
    with running(Service()) as server:
        fits = b"X-Long: " + b"a" * (MAX_HEADER_BYTES // 2) + b"\r\nConnection: close\r\n"
        came = talk(server.port, HEAD + fits + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        assert came.startswith(b"HTTP/1.1 200")
        for large in (
            HEAD + b"X-Long: " + b"a" * MAX_HEADER_BYTES + b"\r\n\r\n",
            HEAD + b"X: y\r\n" * MAX_HEADER_BYTES + b"\r\n",
            b"POST /" + b"a" * MAX_HEADER_BYTES + b" HTTP/1.1\r\n\r\n",
            # A header that never ends.
            HEAD + b"X-Long: " + b"a" * 10 * MAX_HEADER_BYTES,
        ):
            came = talk(server.port, large)
            assert came.startswith(b"HTTP/1.1 431"), came[:80]
            assert b'"error_type":"validation"' in came
        for other in (b"no HTTP at all\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
            assert talk(server.port, other).startswith(b"HTTP/1.1 400")
        assert httpx.get(f"{server.url}/livez").status_code == 200


def test_the_work_of_a_client_that_goes_away_is_cancelled():
    service = Service(seconds=30)
    with running(service) as server:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{server.url}/predict", content=BODY, timeout=0.3)
        for _ in range(200):
            if service.cancelled:
                break
            time.sleep(0.01)
        assert service.cancelled == 1
        assert server.server.context.metrics.registry.get_sample_value(
            "keras_peft_requests_total", {"route": "/predict", "status": "499"}
        )


def test_a_storm_of_clients_that_go_away_does_no_lasting_damage():
    service = Service(seconds=0.2)
    with running(service) as server:
        for _ in range(60):
            with socket.create_connection(("127.0.0.1", server.port)) as line:
                line.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        deadline = time.monotonic() + 10
        while len(server.server.server_state.tasks) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not server.server.server_state.tasks
        assert service.answered + service.cancelled == len(service.asked)
        assert httpx.post(f"{server.url}/predict", content=BODY, timeout=10).status_code == 200


def test_a_request_is_given_up_at_its_deadline():
    with client(Service(seconds=30), deadline_ms=50) as http:
        answer = http.post("/predict", content=BODY)
    assert (answer.status_code, answer.json()["error_type"]) == (504, "timeout")


def test_what_all_bodies_take_together_is_limited():
    with running(Service(), max_body_bytes=100_000) as server, ExitStack() as stack:
        lines = []
        for _ in range(40):
            line = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            # The last byte is missing, so the server keeps the bodies in memory.
            line.sendall(HEAD + b"Content-Length: 100000\r\n\r\n" + b" " * 99_999)
            lines.append(line)
        answered, _, _ = select.select(lines, [], [], 5)
        assert answered
        assert all(line.recv(65536).startswith(b"HTTP/1.1 429") for line in answered)
        stack.close()
        assert httpx.post(f"{server.url}/predict", content=BODY).status_code == 200


def test_requests_on_one_connection_are_answered_in_their_order():
    one = HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY
    last = b"GET /nothing HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with running(Service()) as server:
        came = talk(server.port, one + one + last)
    assert [came[at + 9 : at + 12] for at in range(len(came)) if came.startswith(b"HTTP/1.1", at)] == [
        b"200",
        b"200",
        b"404",
    ]
