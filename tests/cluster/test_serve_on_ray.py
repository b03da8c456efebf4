"""Serving on Ray: a replica is killed and a bundle is replaced under load, and every response is right."""

from __future__ import annotations

import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from conftest import ROOT, TINY
from keras_peft import cluster
from keras_peft.serve.on_ray.application import APPLICATION, DEPLOYMENT
from keras_peft.serve.on_ray.proxies import proxies_without_middleware
from keras_peft.serve.on_ray.start_failure import reason
from serve.bundles import write_bundle

TEXTS = ["the model and the people", "time for what you have", "people people not the model"]
NAMES = ["mood", "news"]
CLIENTS, BEGUN = 4, 8


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def asked(address, path, body=None):
    """Returns the status, the headers and the body of a response."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, content, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, response.headers, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read().decode()


def predicted(address, name, text):
    return answered(*asked(address, "/predict", {"inputs": text, "adapter_id": name}))


def answered(status, headers, body):
    """Returns what of a response is the same for each server."""
    if status != 200:
        return status, headers.get("Retry-After"), body
    # Batches of other sizes may change the last digits.
    return status, None, tuple((one["label"], round(one["score"], 4)) for one in json.loads(body))


@contextmanager
def server(folder, port, *options, warned=()):
    """Runs `keras-peft serve` until the end of the context, and yields its address and its process.

    Its paths are relative to the folder that it runs in; the replicas run in another one. `warned` are the events of
    its log that are not mere information.
    """
    command = [sys.executable, "-c", "from keras_peft.cli import main; main()", "serve", folder.name]
    command += ["--base", "base", "--port", str(port), "--watch-s", "0.2", *options]
    with subprocess.Popen(
        command, cwd=folder.parent, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("Serving 2 adapters (mood, news) at "), line + process.stderr.read()
            yield line.split(" at ")[1].strip(), process
        finally:
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate()
    assert process.returncode == 0, said
    # Ray's own messages are not shown.
    lines = [line for line in said.splitlines() if not line.startswith(("Loading", "Starting"))]
    events = [json.loads(line) for line in lines]
    assert [one["event"] for one in events if one["level"] != "info"] == list(warned)


def answers_of_one_process(folder):
    """Returns the answers of a server without Ray, by adapter and text."""
    with server(folder, free_port()) as (address, _):
        found = {(name, text): predicted(address, name, text) for name in NAMES for text in TEXTS}
    assert all(status == 200 for status, _, _ in found.values())
    return found


def check_unavailable(status, retry_after, body):
    assert (status, retry_after, json.loads(body)["error_type"]) == (503, "1", "unhealthy")


class Begun:
    """A request whose body has begun: it is in a replica, which waits for the rest.

    Attributes:
        question: The adapter and the text.
    """

    def __init__(self, address, name, text):
        self.question = name, text
        body = json.dumps({"inputs": text, "adapter_id": name}).encode()
        self._connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=120)
        self._connection.putrequest("POST", "/predict")
        self._connection.putheader("Content-Length", str(len(body)))
        self._connection.endheaders(body[:9])
        self._rest = body[9:]

    @property
    def socket(self):
        return self._connection.sock

    def ended(self):
        """Sends the rest if there is no response yet, and returns the answer."""
        if not select.select([self.socket], [], [], 0)[0]:
            self._connection.send(self._rest)
        with closing(self._connection):
            response = self._connection.getresponse()
            return answered(response.status, response.headers, response.read().decode())


class Load:
    """Clients that send one request after the other, each its own texts.

    Attributes:
        seen: Number of responses of each kind, by adapter and text.
    """

    def __init__(self, address):
        self.seen = Counter()
        self._address, self._stop, self._lock = address, threading.Event(), threading.Lock()
        self._failures = []

    def __enter__(self):
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()
        assert self._failures == []

    def _run(self, number):
        try:
            while not self._stop.is_set():
                question = NAMES[number % 2], TEXTS[number % len(TEXTS)]
                answer = predicted(self._address, *question)
                with self._lock:
                    self.seen[question, answer] += 1
                number += 1
        except Exception as error:  # For example a connection that was reset.
            self._failures.append(error)

    def until(self, reached, patience=120):
        end = time.monotonic() + patience
        while not reached(self):
            assert time.monotonic() < end, self.seen
            threading.Event().wait(0.05)

    def more(self, count):
        """Waits for further responses."""
        before = self.seen.total()
        self.until(lambda load: load.seen.total() >= before + count)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("on-ray") / "served"
    shutil.copytree(TINY, folder.parent / "base")
    write_bundle(folder / "mood", scale=0.5, seed=1)
    write_bundle(folder / "news", scale=0.5, seed=2)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    return answers_of_one_process(folder)


@pytest.fixture(scope="module")
def serving(cluster, folder):
    """The address and the process of a server with two replicas."""
    # The proxies start while this machine is busy.
    patient = {f"RAY_SERVE_PROXY_{check}_CHECK_TIMEOUT_S": "120" for check in ("READY", "HEALTH")}
    os.environ |= patient
    with server(
        folder, free_port(), "--on", "ray", "--replicas", "2", "--gpus", "0.5", "--idle-timeout-s", "120"
    ) as found:
        yield found


@pytest.fixture(scope="module")
def replicas(serving):
    """The address of a server with two replicas."""
    return serving[0]


def processes():
    """Returns the processes of the replicas in this session of Ray."""
    home, found = f"HOME={os.environ['HOME']}".encode(), set()
    for one in Path("/proc").glob("[0-9]*"):
        try:
            is_replica = (one / "cmdline").read_bytes().startswith(b"ray::ServeReplica:keras-peft:server")
            if is_replica and home in (one / "environ").read_bytes().split(b"\0"):
                found.add(int(one.name))
        except OSError:  # It has ended.
            continue
    return found


def series(address, name):
    """Returns the values of a metric, by replica and adapter, with the generation."""
    status, _, text = asked(address, "/metrics")
    if status != 200:
        return {}
    families = {one.name: one for one in text_string_to_metric_families(text)}
    return {
        (one.labels["replica"], one.labels["adapter"]): (one.value, one.labels.get("generation"))
        for one in families[f"keras_peft_{name}"].samples
    }


def test_a_killed_replica_costs_its_requests_a_503_and_its_successor_serves_everything(replicas, expected):
    before = processes()
    names = {replica for replica, _ in series(replicas, "adapter_loaded")}
    assert len(before) == len(names) == 2
    with Load(replicas) as load:
        load.more(20)
        begun = [Begun(replicas, NAMES[n % 2], TEXTS[n % len(TEXTS)]) for n in range(BEGUN)]
        # Requests get to a replica in the order in which they come.
        load.more(40)
        for replica in sorted(before):
            os.kill(replica, signal.SIGKILL)
            # Ray may have given all of them to the other replica, which is then the next to be killed.
            if select.select([one.socket for one in begun], [], [], 10)[0]:
                break
        load.more(20)
        answers = [(one.question, one.ended()) for one in begun]
        assert any(status == 503 for _, (status, _, _) in answers)

        def works(load):
            answered = series(replicas, "adapter_requests")
            new = {replica for replica, _ in answered} - names
            return any(all(answered.get((one, name), (0,))[0] for name in NAMES) for one in new)

        load.until(works)
        load.until(lambda _: len({replica for replica, _ in series(replicas, "adapter_loaded")}) == 2)
    for question, answer in [*answers, *load.seen]:
        if answer[0] == 503:
            check_unavailable(*answer)
        else:
            assert answer == expected[question]


def test_every_answer_is_that_of_the_old_or_the_new_bundle(replicas, folder, expected):
    def generations():
        loaded = series(replicas, "adapter_loaded")
        return {replica: found for (replica, name), (_, found) in loaded.items() if name == "mood"}

    before = generations()
    assert len(before) == 2
    with Load(replicas) as load:
        load.more(20)
        write_bundle(folder / "mood", scale=0.5, seed=3)
        load.until(lambda _: all(generations().get(one, found) != found for one, found in before.items()))
        # Those that were on their way may have the old answer.
        load.more(CLIENTS)
        with Load(replicas) as late:
            late.more(20)
    new = answers_of_one_process(folder)
    questions = {(name, text) for name in NAMES for text in TEXTS}
    assert all(new[one] != expected[one] for one in questions if one[0] == "mood")
    assert {one for one, _ in load.seen} == questions
    for question, answer in load.seen:
        assert answer in (expected[question], new[question])
    for question, answer in late.seen:
        assert answer == new[question]


def test_the_folder_says_what_is_served(replicas):
    status, _, said = asked(replicas, "/v2/repository/models/news/unload", {})
    assert status == 409 and "remove the bundle from the folder" in json.loads(said)["error"]
    assert asked(replicas, "/v2/repository/models/news/load", {})[0] == 200
    assert asked(replicas, "/v2/repository/models/none/load", {})[0] == 404


def test_a_cluster_whose_proxies_listen_elsewhere_is_refused(replicas, folder):
    command = [sys.executable, "-c", "from keras_peft.cli import main; main()", "serve", str(folder)]
    command += ["--on", "ray", "--port", str(free_port())]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    port = replicas.rpartition(":")[2]
    assert f"already listens on --host 127.0.0.1 and --port {port}" in ended.stderr


def test_the_manifest_fits_the_schema_of_ray_serve():
    from ray.serve.schema import ServeDeploySchema

    manifest = yaml.safe_load((ROOT / "deploy" / "kubernetes" / "ray" / "rayservice.yaml").read_text())
    given = yaml.safe_load(manifest["spec"]["serveConfigV2"])
    found = ServeDeploySchema.model_validate(given)
    # The schema ignores unknown fields of some of its parts.
    assert set(given) <= set(type(found).model_fields)
    assert set(given["http_options"]) <= set(type(found.http_options).model_fields)
    (application,) = found.applications
    assert set(given["applications"][0]) <= set(type(application).model_fields)


def test_the_reason_of_a_failed_replica_is_found_in_ray_s_status(monkeypatch):
    from ray import serve

    message = "The deployment failed to start 3 times.\nRuntimeError: Traceback:\n  File …\n"
    message += "keras_peft.errors.BaseError: There is no base 'x'.\n"
    deployments = {DEPLOYMENT: SimpleNamespace(message=message)}
    status = SimpleNamespace(applications={APPLICATION: SimpleNamespace(deployments=deployments)})
    monkeypatch.setattr(serve, "status", lambda: status)
    assert reason(RuntimeError("It failed.")) == "There is no base 'x'"
    deployments.clear()
    assert "It failed" in reason(RuntimeError("It failed."))


def test_requests_while_and_after_the_command_ends_may_be_sent_later(serving):
    address, process = serving
    expected = {(name, text): predicted(address, name, text) for name in NAMES for text in TEXTS}
    with cluster.joined("This test") as ray:
        assert proxies_without_middleware(ray) == 0
        # Each replica has its share of the one that Ray counts.
        assert ray.available_resources().get("GPU", 0) == 0
    with Load(address) as load:
        load.more(20)
        pending = Begun(address, NAMES[0], TEXTS[0])
        load.more(20)
        process.send_signal(signal.SIGTERM)
        load.until(lambda load: any(answer[0] != 200 for _, answer in load.seen))
        load.more(20)
        # The replica that has it waits for its rest.
        assert pending.ended() == expected[pending.question]
        process.wait()
        load.more(20)
    for question, answer in load.seen:
        if answer[0] == 503:
            check_unavailable(*answer)
        else:
            assert answer == expected[question]


def test_proxies_that_were_started_without_the_middleware_are_told(serving, folder):
    from ray import serve

    address, process = serving
    process.wait()
    port = int(address.rpartition(":")[2])
    with cluster.joined("This test"):
        serve.shutdown()
        # As an administrator of a cluster may have done.
        serve.start(proxy_location="EveryNode", http_options={"port": port})
        try:
            with server(folder, port, "--on", "ray", warned=["middleware_missing"]) as (found, _):
                assert predicted(found, NAMES[0], TEXTS[0])[0] == 200
        finally:
            serve.shutdown()
