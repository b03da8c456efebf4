"""The middleware of Ray's proxy, in front of what such a proxy sends; Ray itself is in tests/cluster."""

from __future__ import annotations

import asyncio
import json

import pytest

from keras_peft.serve.http.ray_proxy import LostRequests, middleware

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}


def sent_by(*messages, path="/predict"):
    """Returns what a client gets when the proxy sends these messages."""
    (found,) = middleware()
    assert found.cls is LostRequests

    async def proxy(scope, receive, send):
        for message in messages:
            await send(message)

    seen = []

    async def send(message):
        seen.append(message)

    asyncio.run(LostRequests(proxy)({"type": "http", "path": path, "method": "POST"}, None, send))
    return seen


def test_a_response_passes():
    assert sent_by(START, BODY) == [START, BODY]


@pytest.mark.parametrize("before", [[], [START]], ids=["before", "after the headers"])
def test_a_request_whose_replica_is_lost_may_be_sent_again(before):
    start, body = sent_by(*before)
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"1"
    assert json.loads(body["body"])["error_type"] == "unhealthy"


def test_the_error_has_the_format_of_the_protocol():
    _, body = sent_by(path="/v1/classify")
    assert json.loads(body["body"])["error"]["type"] == "server_error"


def test_a_stream_is_not_held_back():
    start = {**START, "headers": []}
    # The proxy of another application may be lost within its response; nothing can be added to it.
    assert sent_by(start) == [start]


def test_ray_s_own_503_gets_a_time():
    start, _ = sent_by({**START, "status": 503}, BODY)
    assert (b"retry-after", b"1") in start["headers"]
    asked = {**START, "status": 503, "headers": [(b"Retry-After", b"7")]}
    (start, _) = sent_by({**asked, "headers": [*asked["headers"], *START["headers"]]}, BODY)
    assert [value for name, value in start["headers"] if name == b"retry-after"] == [b"7"]


def test_a_request_has_one_id():
    twice = [(b"x-request-id", b"a"), (b"X-Request-ID", b"a"), *START["headers"]]
    start, _ = sent_by({**START, "headers": twice}, BODY)
    assert start["headers"] == [(b"x-request-id", b"a"), *START["headers"]]


def test_other_connections_pass():
    seen = []

    async def proxy(scope, receive, send):
        seen.append(scope["type"])

    asyncio.run(LostRequests(proxy)({"type": "websocket"}, None, None))
    assert seen == ["websocket"]
