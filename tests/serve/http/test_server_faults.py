"""A server process beside faults of its machine: full disks, hung threads, ports that others take."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2 as httpx
import pytest

from keras_peft.cli.process import LenientStream, lenient_output
from keras_peft.errors import OptionError
from keras_peft.serve.http.app import create
from keras_peft.serve.http.process import Server, bind
from serve.bundles import write_bundle
from serve.fake import Service, serving
from serve.http.acceptance.running import COMMAND, serve, until

FULL = Path("/dev/full")
BODY = {"inputs": "a", "adapter_id": "one"}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    write_bundle(folder / "one")
    return folder


@pytest.mark.skipif(not FULL.exists(), reason="The system has no /dev/full.")
def test_a_server_whose_log_is_on_a_full_disk_answers(root):
    with (
        FULL.open("w") as full,
        subprocess.Popen(
            [*COMMAND, "serve", str(root), "--port", "0"], stdout=subprocess.PIPE, stderr=full, text=True
        ) as process,
    ):
        try:
            url = process.stdout.readline().split()[-1]
            assert httpx.post(f"{url}/predict", json=BODY).status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0
        finally:
            process.kill()


def test_lines_after_a_full_disk_are_whole(monkeypatch):
    reader, writer = os.pipe()
    room = [3]

    def write(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        done = original(descriptor, data[: room[0]])
        room[0] -= done
        return done

    original = os.write
    with os.fdopen(writer, "w") as stream, os.fdopen(reader) as came:
        lenient = LenientStream(stream)
        monkeypatch.setattr(os, "write", write)
        lenient.write("abcdef\n")
        lenient.write("lost\n")
        room[0] = 1000
        lenient.write("whole é\n")
        monkeypatch.undo()
        stream.close()
        assert came.read() == "abc\nwhole é\n"


def test_streams_without_a_descriptor_stay(capsys):
    before = sys.stdout
    with lenient_output():
        assert sys.stdout is before
        print("kept")  # noqa: T201
    assert capsys.readouterr().out == "kept\n"


def test_a_server_is_found_dead_when_a_worker_hangs_and_ends_although_it_hangs(root, tmp_path):
    with serve(tmp_path, root, "--deadline-ms", "500", "--drain-timeout-s", "0", hung_after=1.0) as server:
        assert server.http.get("/livez").status_code == 200
        # Never released: the worker hangs until the process ends.
        (tmp_path / "held" / "one").touch()
        assert server.predict("one").status_code == 504
        until(lambda: server.http.get("/livez").status_code == 503)
        assert server.http.get("/readyz").status_code == 503
    assert server.process.returncode == 0


def test_a_load_that_hangs_blocks_neither_requests_nor_the_end(root, tmp_path):
    with serve(tmp_path, root, "--deadline-ms", "2000", "--drain-timeout-s", "0", hung_after=600.0) as server:
        (tmp_path / "held" / "slow").touch()
        write_bundle(root / "slow")
        assert server.predict("slow").status_code == 504
        assert server.predict("one").status_code == 200
        assert server.http.get("/livez").status_code == 200
    assert server.process.returncode == 0


def test_a_server_can_start_where_another_was_killed(root, tmp_path):
    command = [*COMMAND, "serve", str(root)]
    with subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True) as first:
        url = first.stdout.readline().split()[-1]
        with httpx.Client(base_url=url) as http:
            assert http.post("/predict", json=BODY).status_code == 200
            # The connection of this client is still open.
            first.kill()
            first.wait()
    port = url.rpartition(":")[2]
    with subprocess.Popen([*command, "--port", port], stdout=subprocess.PIPE, text=True) as second:
        try:
            assert second.stdout.readline().split()[-1] == url
            assert httpx.post(f"{url}/predict", json=BODY).status_code == 200
        finally:
            second.kill()


def test_two_servers_that_start_together_do_not_share_a_port():
    """Both can bind the port before one of them listens."""
    with bind("127.0.0.1", 0) as late, bind("127.0.0.1", late.getsockname()[1]) as early:
        early.listen()
        state = serving(Service())
        server = Server(create(state), state)
        with pytest.raises(OptionError, match=r"Cannot listen on .* \(Address already in use\)"):
            asyncio.run(server.serve(sockets=[late]))
