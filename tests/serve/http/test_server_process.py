from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2 as httpx
import pytest

from keras_peft.errors import BundleError, OptionError
from keras_peft.methods.ia3 import IA3
from keras_peft.serve.base_name import base_of
from keras_peft.serve.http.process import bind
from keras_peft.serve.repository import Repository
from sampling import sample
from serve.bundles import write_bundle

BODY = {"inputs": "a", "adapter_id": "single"}
# A server with a slow service, as the process runs it.
SLOW = """
import asyncio, sys
from serve.fake import Service, serving
from keras_peft.serve.http.app import create
from keras_peft.serve.http.process import Server, bind
seconds, *settings = map(float, sys.argv[1:])
state = serving(Service(seconds=seconds), pre_stop_s=settings[0], drain_timeout_s=settings[1])
server, listener = Server(create(state), state), bind("127.0.0.1", 0)
print(listener.getsockname()[1], flush=True)
with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
    runner.run(server.serve(sockets=[listener]))
sys.exit(3 if server.force_exit else 0)
"""


@contextmanager
def slow_server(
    seconds: float, *, pre_stop: float = 0.0, drain: float = 10.0
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    paths = [str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-c", SLOW, str(seconds), str(pre_stop), str(drain)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
            wait_for(url)
            yield process, url
        finally:
            process.kill()


def wait_for(url: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.02)
    raise TimeoutError(url)


@contextmanager
def asking(url: str, requests: int) -> Iterator[list[httpx.Response | Exception]]:
    """Sends concurrent requests; all have their responses when the block ends."""
    answers: list[httpx.Response | Exception] = []

    def ask() -> None:
        try:
            answers.append(client.post(f"{url}/predict", json=BODY))
        except httpx.TransportError as error:
            answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(requests)]
    # One client for all requests, since creating one takes longer than a request takes to arrive.
    with httpx.Client(timeout=20) as client:
        for thread in threads:
            thread.start()
        # All requests have arrived.
        time.sleep(0.4)
        yield answers
        for thread in threads:
            thread.join()


def test_a_signal_to_end_loses_no_reply():
    with slow_server(1.0) as (process, url):
        with asking(url, 20) as answers:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert [getattr(answer, "status_code", answer) for answer in answers] == [200] * 20


@pytest.mark.parametrize("pre_stop", [0.0, 0.5])
@pytest.mark.parametrize("keeps", [True, False], ids=["kept", "fresh"])
def test_a_signal_under_load_loses_nothing(keeps, pre_stop):
    """Clients send requests without a pause until they are refused a connection."""
    answered, lost = [], []

    def ask_until_refused(port: int) -> None:
        line = None
        headers = {} if keeps else {"Connection": "close"}
        while True:
            if line is None:
                line = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
                try:
                    line.connect()
                except OSError:
                    line.close()
                    return
            try:
                line.request("POST", "/predict", json.dumps(BODY), headers)
                answer = line.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                lost.append(error)
                line.close()
                return
            answered.append(answer.status)
            if answer.getheader("connection") == "close":
                answer.close()
                line.close()
                line = None

    with slow_server(0.02, pre_stop=pre_stop) as (process, url):
        port = int(url.rpartition(":")[2])
        threads = [threading.Thread(target=ask_until_refused, args=(port,)) for _ in range(16)]
        for thread in threads:
            thread.start()
        while len(answered) < 50:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert process.wait(timeout=20) == 0
    assert lost == []
    assert set(answered) == {200}


def test_all_pipelined_requests_are_answered_when_it_ends():
    body = json.dumps(BODY).encode()
    one = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with slow_server(0.3) as (process, url):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20) as line:
            line.sendall(one * 4)
            came = line.recv(65536)
            process.send_signal(signal.SIGTERM)
            while chunk := line.recv(65536):
                came += chunk
        assert process.wait(timeout=20) == 0
    assert came.count(b"HTTP/1.1 200") == 4
    assert came.count(b"connection: close") == 1
    assert b"connection: close" in came.rpartition(b"HTTP/1.1 ")[2]


def test_before_it_ends_it_answers_on_and_is_not_ready():
    with slow_server(0.0, pre_stop=1.0) as (process, url):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        assert httpx.get(f"{url}/readyz").status_code == 503
        assert httpx.get(f"{url}/livez").status_code == 200
        answer = httpx.post(f"{url}/predict", json=BODY)
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert process.wait(timeout=10) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/livez")


def test_requests_that_do_not_finish_in_time_get_an_error():
    with slow_server(20.0, drain=1.0) as (process, url):
        with asking(url, 3) as answers:
            process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert [answer.status_code for answer in answers] == [503] * 3
    assert {answer.json()["error_type"] for answer in answers} == {"unhealthy"}


def test_a_second_signal_ends_it_now():
    with slow_server(20.0, drain=20.0) as (process, url), asking(url, 1):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=5) == 3


def test_a_used_port_is_reported_before_anything_is_loaded(command_line, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OptionError, match=f"Cannot listen on .* and `port={port}` "):
            bind("127.0.0.1", port)
        code, _, err = command_line("serve", tmp_path, "--port", port)
    assert code == 2
    assert "set --port 0 to pick a free port" in err


def test_what_cannot_be_served_is_reported(command_line, tmp_path):
    for arguments, words in [
        ([tmp_path / "none"], "does not exist"),
        ([tmp_path], "set --base"),
        ([tmp_path, "--host", "0.0.0.0"], "KERAS_PEFT_API_KEY"),
        ([tmp_path, "--max-texts", 0], "--max-texts must be at least 1"),
        ([tmp_path, "--keys", tmp_path / "keys.toml"], "cannot be read"),
    ]:
        code, out, err = command_line("serve", *arguments, "--port", 0)
        assert (code, out) == (2, ""), err
        assert words in err


def test_the_base_is_the_one_that_all_bundles_name(tmp_path):
    write_bundle(tmp_path / "a")
    write_bundle(tmp_path / "b", IA3())
    repository = Repository([tmp_path])
    named = base_of(repository, None)
    assert Path(named).is_dir()
    assert base_of(repository, "elsewhere") == "elsewhere"
    # A damaged bundle does not prevent serving the others.
    write_bundle(tmp_path / "odd", base={})
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "bundle.json").write_text("[" * 100_000)
    assert base_of(repository, None) == named
    write_bundle(tmp_path / "c", base={"name": "minilm", "architecture": "distilbert", "sha256": "0" * 64})
    with pytest.raises(BundleError, match="these have 2: a, b of .*; c of minilm"):
        base_of(repository, None)


@pytest.mark.parametrize("engine", sample(["auto", "keras"], "auto"))
def test_the_command_serves_a_folder_until_it_is_stopped(tmp_path, engine):
    write_bundle(tmp_path / "bundles" / "one", seed=1)
    write_bundle(tmp_path / "bundles" / "two", IA3(), seed=2, labels=("x", "y", "z"))
    (tmp_path / "bundles" / "broken").mkdir()
    (tmp_path / "bundles" / "broken" / "bundle.json").write_text("{}")
    keys = {"KERAS_PEFT_API_KEY": "d" * 24}
    command = [
        sys.executable,
        "-c",
        "from keras_peft.cli import main; main()",
        "serve",
        "bundles",
        "--port",
        "0",
        "--engine",
        engine,
    ]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**os.environ, **keys},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            first, example = process.stdout.readline(), process.stdout.readline()
            url = first.split()[-1]
            assert first.startswith("Serving 2 adapters (one, two) at http://127.0.0.1:")
            assert "curl" in example
            assert "Authorization: Bearer KEY" in example
            ask = httpx.Client(base_url=url, headers={"authorization": f"Bearer {'d' * 24}"})
            both = ask.post("/predict", json={"inputs": "a few words", "adapter_id": ["one", "two"]})
            alone = ask.post("/predict", json={"inputs": "a few words", "adapter_id": "two"})
            broken = ask.post("/predict", json={"inputs": "a", "adapter_id": "broken"})
            assert httpx.post(f"{url}/predict", json={"inputs": "a", "adapter_id": "one"}).status_code == 401
            assert [len(scores) for scores in both.json().values()] == [2, 3]
            for one, other in zip(both.json()["two"], alone.json(), strict=True):
                assert one["label"] == other["label"]
                assert one["score"] == pytest.approx(other["score"], abs=1e-5)
            assert broken.status_code == 503
            assert str(tmp_path) not in broken.text
            assert ask.get("/readyz").status_code == 200
            ask.close()
        finally:
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "broken is not served" in err
    told = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    assert {(one.get("route"), one.get("status")) for one in told} >= {("/predict", 200), ("/predict", 503)}
    assert "Traceback" not in err
