"""Overload, disconnecting clients, a hanging base, and shutdown."""

from __future__ import annotations

import json
import signal
import socket

import httpx2 as httpx
import pytest

from serve.bundles import write_bundle
from serve.http.acceptance import running
from serve.http.acceptance.running import ADMIN, TEXTS, Served, by_label, together, until

pytestmark = pytest.mark.thorough

ROOM = 8  # of the small server's queue


@pytest.fixture
def own(tmp_path):
    """Starts a server with one bundle for a single test."""
    root = tmp_path / "bundles"
    write_bundle(root / "mood", seed=1)

    def run(*flags: str):
        return running.serve(tmp_path / "server", root, "--watch-s", "0", *flags, hung_after=600.0)

    return run


def full(server: Served, rows: int) -> None:
    """Waits until the given number of rows is queued or running."""
    until(lambda: server.metric("queue_size") + server.metric("in_flight") == rows)


def test_11_a_full_queue_refuses_at_once_and_the_server_keeps_running(small):
    assert small.predict("mood").status_code == 200
    with together() as call, small.holding("mood"):
        waiting = [call(small.predict, "mood", f"{TEXTS[0]} {n}") for n in range(ROOM)]
        full(small, ROOM)
        refused = [small.predict("mood", "one more"), small.predict("mood", [["two"], ["more"]])]
        for answer in refused:
            assert (answer.status_code, answer.json()["error_type"]) == (429, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
        for probe in ("/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"):
            assert httpx.get(f"{small.url}{probe}").status_code == 200
        # Refused requests do not affect the waiting ones.
        assert not any(one.done() for one in waiting)
    assert [one.result().status_code for one in waiting] == [200] * ROOM
    assert small.predict("mood").status_code == 200


def test_11_a_request_is_taken_as_a_whole_or_not_at_all(small):
    assert small.predict("mood").status_code == 200  # Loading it would be blocked, too.
    with together() as call, small.holding("mood"):
        waiting = [call(small.predict, "mood", f"{TEXTS[0]} {n}") for n in range(ROOM - 1)]
        full(small, ROOM - 1)
        assert small.predict("mood", [["one"], ["two"]]).status_code == 429
        full(small, ROOM - 1)
        waiting.append(call(small.predict, "mood", "one"))
        full(small, ROOM)
    assert [one.result().status_code for one in waiting] == [200] * ROOM


@pytest.fixture(scope="module")
def hung(tmp_path_factory):
    """A server with a deadline of one second, whose workers count as hanging after four."""
    folder = tmp_path_factory.mktemp("hung")
    write_bundle(folder / "bundles" / "mood", seed=1)
    flags = "--watch-s", "0", "--deadline-ms", "1000"
    with running.serve(folder / "server", folder / "bundles", *flags, hung_after=4.0) as one:
        yield one


def test_12_a_base_that_hangs_is_seen(hung):
    with httpx.Client(base_url=hung.url) as anyone:
        with hung.holding("mood"):
            assert hung.predict("mood").status_code == 504
            until(lambda: anyone.get("/livez").status_code == 503)
            assert anyone.get("/livez").json()["error_type"] == "unhealthy"
            assert anyone.get("/readyz").status_code == 503
            assert anyone.get("/v2/health/live").status_code == 503
        until(lambda: anyone.get("/livez").status_code == 200)
        assert anyone.get("/readyz").status_code == 200
    assert hung.predict("mood").status_code == 200


def test_18_a_request_has_its_deadline_while_it_is_computed(hung):
    with together() as call, hung.holding("mood"):
        # One request runs and the other waits in the queue.
        asking = [call(hung.predict, "mood", TEXTS[0])]
        until(lambda: hung.metric("in_flight") == 1)
        asking.append(call(hung.predict, "mood", TEXTS[1]))
        for one in asking:
            assert (one.result().status_code, one.result().json()["error_type"]) == (504, "timeout")
        # The base still computes the first row, and no request waits.
        assert (hung.metric("in_flight"), hung.metric("queue_size")) == (1, 0)
    full(hung, 0)
    assert hung.predict("mood").status_code == 200


def test_13_a_storm_of_clients_that_go_away_leaves_nothing_behind(small):
    assert small.predict("mood").status_code == 200
    files, threads = small.files(), small.status("Threads")
    gone = small.metric("requests_total", route="/predict", status="499")
    batches = small.metric("batch_size_count")
    with together() as call, small.holding("mood"):
        # A single row is computed, and all others have to wait.
        first = call(small.predict, "mood")
        until(lambda: small.metric("in_flight") == 1)
        for storm in range(10):
            lines = [ask_and_leave(small, f"{TEXTS[0]} {storm} {n}") for n in range(20)]
            # Requests fill the queue when all clients disconnect.
            until(lambda: small.metric("queue_size") == ROOM - 1)
            for line in lines:
                line.close()
            # Rows that have not started are dropped.
            until(lambda: small.metric("queue_size") == 0)
    assert first.result().status_code == 200
    full(small, 0)
    # Apart from the blocked batch, nothing was computed for them.
    assert small.metric("batch_size_count") <= batches + 1
    assert small.metric("requests_total", route="/predict", status="499") > gone + 10
    assert {one["in_flight"] for one in small.statuses().values()} == {0}
    with together(ROOM) as call:
        answers = [call(small.predict, "mood", f"{TEXTS[0]} {n}") for n in range(100)]
    assert [answer.result().status_code for answer in answers] == [200] * 100
    until(lambda: small.files() <= files + ROOM)
    assert small.status("Threads") == threads


def ask_and_leave(server: Served, text: str) -> socket.socket:
    """Sends a request and returns the connection without reading a response."""
    body = json.dumps({"inputs": text, "adapter_id": "mood"})
    line = socket.create_connection(("127.0.0.1", server.port))
    line.sendall(
        f"POST /predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    return line


def test_14_a_signal_to_end_loses_no_reply(own):
    with own() as server:
        with together() as call, server.holding("mood"):
            waiting = [call(server.predict, "mood", f"{TEXTS[0]} {n}") for n in range(20)]
            full(server, 20)
            server.process.send_signal(signal.SIGTERM)
            # It accepts no new connections, and earlier requests are still blocked.
            until(lambda: is_closed(server))
            assert server.process.poll() is None
            assert not any(one.done() for one in waiting)
        assert [one.result().status_code for one in waiting] == [200] * 20
        assert server.process.wait(running.PATIENCE) == 0


def test_14_clients_that_look_whether_it_is_ready_notice_nothing(own):
    with own("--pre-stop-s", "1") as server:
        answers: list[httpx.Response] = []

        def ask() -> None:
            with httpx.Client(base_url=server.url, headers=server.http.headers) as http:
                while http.get("/readyz").status_code == 200:
                    answers.append(http.post("/predict", json={"inputs": TEXTS[0], "adapter_id": "mood"}))

        with together() as call:
            clients = [call(ask) for _ in range(4)]
            until(lambda: len(answers) > 20)
            server.process.send_signal(signal.SIGTERM)
        # No client met a closed connection.
        for client in clients:
            client.result()
        assert server.process.wait(running.PATIENCE) == 0
    first = by_label(answers[0].json())
    for answer in answers:
        assert answer.status_code == 200
        assert by_label(answer.json()) == pytest.approx(first, abs=1e-5)


def is_closed(server: Served) -> bool:
    try:
        httpx.get(f"{server.url}/livez")
    except httpx.TransportError:
        return True
    return False


def test_14_requests_that_do_not_finish_in_time_get_an_error(own):
    with own("--drain-timeout-s", "1") as server:
        with together() as call, server.holding("mood"):
            waiting = [call(server.predict, "mood", f"{TEXTS[0]} {n}") for n in range(3)]
            full(server, 3)
            server.process.send_signal(signal.SIGTERM)
            answers = [one.result() for one in waiting]
            # The process exits normally although the base hangs.
            assert server.process.wait(running.PATIENCE) == 0
        assert [(one.status_code, one.json()["error_type"]) for one in answers] == [(503, "unhealthy")] * 3
