"""The middleware of Ray's proxy, in front of what such a proxy sends; Ray itself is in tests/cluster."""

from __future__ import annotations

import asyncio
import json

import pytest

from keras_peft.serve.http.ray_proxy import LostRequests, middleware

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
BODY = {"type": "http.response.body", "body": b"ok"}


# What Ray's proxy responds to a path that no application has.
NOT_FOUND = (
    {
        "type": "http.response.start",
        "status": 404,
        "headers": [(b"content-type", b"text/plain; charset=utf-8")],
    },
    {
        "type": "http.response.body",
        "body": b"Path '/predict' not found. Ping http://.../-/routes for available routes.",
    },
)


def sent_by(*messages, path="/predict", routes=(200, b'{"/":"keras-peft"}')):
    """Returns what a client gets when the proxy sends these messages; `routes` is its list of applications."""
    (found,) = middleware()
    assert found.cls is LostRequests

    async def proxy(scope, receive, send):
        if (scope["method"], scope["path"]) == ("GET", "/-/routes"):
            status, body = routes
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": body})
            return
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


@pytest.mark.parametrize("routes", [(200, b"{}"), (503, b"Route table is not populated yet.")])
def test_where_no_application_runs_a_request_may_be_sent_later(routes):
    start, body = sent_by(*NOT_FOUND, routes=routes)
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"1"
    found = json.loads(body["body"])
    assert found["error_type"] == "unhealthy"
    assert "No server runs at this address now" in found["error"]


def test_a_path_that_no_application_has_stays_unknown():
    assert sent_by(*NOT_FOUND) == list(NOT_FOUND)
    # A replica that still answers while its application is deleted.
    own = [{**START, "status": 404}, {"type": "http.response.body", "body": b'{"error": "No adapter."}'}]
    assert sent_by(*own, routes=(200, b"{}")) == own


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
