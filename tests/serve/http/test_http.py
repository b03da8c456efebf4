"""Real adapters over HTTP: typical problems of other servers."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx2 as httpx
import numpy as np
import pytest
import tritonclient.http as triton
from huggingface_hub import InferenceClient
from tritonclient.utils import InferenceServerException

import keras_peft
from keras_peft.methods.ia3 import IA3
from keras_peft.methods.prefix import PrefixTuning
from keras_peft.serve.engines.keras import Engine
from keras_peft.serve.http.app import create
from keras_peft.serve.http.context import ServerContext
from keras_peft.serve.http.process import Server, bind
from keras_peft.serve.metrics import Metrics
from keras_peft.serve.repository import Repository
from keras_peft.serve.service import Service
from keras_peft.serve.settings import ServeSettings
from serve.bundles import tiny_base, write_bundle
from serve.engine import Wrapped
from serve.growth import growth, resident

TEXTS = ["the model", "people and time", "what have you and the people of the time", "you"]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    write_bundle(folder / "mood", seed=1)
    write_bundle(folder / "news", IA3(), seed=2, labels=("a", "b", "c"))
    write_bundle(folder / "topics", PrefixTuning(), seed=3, task="multi-label", labels=("x", "y", "z", "w"))
    write_bundle(folder / "stars", seed=4, task="regression", options={"mean": 3.0, "deviation": 2.0})
    write_bundle(folder / "pairs", seed=6, task="pairs", labels=("no", "yes"))
    write_bundle(folder / "tags", seed=7, task="token-labels", labels=("B-a", "I-a", "O"))
    return folder


@pytest.fixture(scope="module")
def engine():
    return Engine(tiny_base())


class Running:
    """A server in a thread; `run` can replace the engine's `run`."""

    def __init__(self, root, engine, *, run=None, hung_after=30.0, **settings):
        self._root, self._engine, self._run, self._hung_after = root, Wrapped(engine), run, hung_after
        self._settings = ServeSettings(**settings)

    def __enter__(self):
        self._listener = bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        # A server that does not start fails its test and does not block the process.
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._ready = threading.Event()
        self._thread.start()
        assert self._ready.wait(60)
        self.http = httpx.Client(base_url=self.url, timeout=30)
        return self

    async def _serve(self):
        metrics = Metrics()
        self.service = Service.create(Repository([self._root]), self._engine, self._settings, metrics)
        await self.service.start()
        if self._run is not None:
            # Replaced only after the start, since loading an adapter also runs a row.
            self._engine.run = self._run
        state = ServerContext(self.service, self._settings, metrics=metrics, hung_after=self._hung_after)
        self._server = Server(create(state), state)
        serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        while not self._server.started:
            await asyncio.sleep(0.005)
        self._ready.set()
        await serving
        await self.service.stop(1)

    def __exit__(self, *_):
        self.http.close()
        self._server.should_exit = True
        self._thread.join()

    def predict(self, name, inputs, **options):
        return self.http.post("/predict", json={"inputs": inputs, "adapter_id": name, **options})


@pytest.fixture(scope="module")
def server(root, engine):
    with Running(root, engine) as running:
        yield running


@pytest.mark.parametrize("name", ["mood", "news", "topics", "stars", "pairs"])
def test_an_answer_is_what_the_bundle_says_by_itself(server, root, name):
    given = [[text, "and people"] for text in TEXTS] if name == "pairs" else TEXTS
    alone = keras_peft.load(root / name).predict(given)
    answered = server.http.post("/v1/classify", json={"model": name, "input": given}).json()
    for prediction, datum in zip(alone, answered["data"], strict=True):
        said = prediction.to_json()
        if name == "stars":
            assert datum["value"] == pytest.approx(said["value"], abs=1e-4)
            continue
        assert datum["label"] == said.get("label", next(iter(said.get("labels", [])), None))
        of_class = dict(zip(answered["classes"], datum["probs"], strict=True))
        assert of_class == pytest.approx(said["probabilities"], abs=1e-4)


def test_many_at_once_of_every_kind_are_answered_as_each_alone(server):
    names = ["mood", "news", "topics", "stars", "tags"]
    asked = [(name, text) for name in names for text in TEXTS] * 4
    alone = {pair: server.predict(*pair).json() for pair in set(asked)}
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda pair: server.predict(*pair).json(), asked))
    for pair, answer in zip(asked, answers, strict=True):
        for one, other in zip(answer, alone[pair], strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)
    together = server.predict(names, [[text] for text in TEXTS]).json()
    for name in names:
        for text, answer in zip(TEXTS, together[name], strict=True):
            for one, other in zip(answer, alone[name, text], strict=True):
                assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_the_stock_client_asks_a_real_adapter(server):
    scores = InferenceClient(model=f"{server.url}/adapters/news").text_classification(TEXTS[0])
    assert {one.label for one in scores} == {"a", "b", "c"}
    assert sum(one.score for one in scores) == pytest.approx(1)
    found = InferenceClient(model=f"{server.url}/adapters/tags").token_classification(
        TEXTS[2], aggregation_strategy="none", ignore_labels=[]
    )
    assert [TEXTS[2][one.start : one.end] for one in found] == TEXTS[2].split()


@pytest.mark.parametrize(
    "name",
    ["../served", "..", ".", "/etc", "a/b", "..%2f..%2fetc", "%2e%2e", "a\x00b", "", "a" * 200, "mood/", "~"],
)
def test_no_name_leads_out_of_the_folder(server, root, name):
    for answer in (
        server.predict(name, "a"),
        server.http.post("/v1/load_lora_adapter", json={"lora_name": name}),
        server.http.post(f"/v2/repository/models/{quote(name, safe='')}/load"),
    ):
        assert answer.status_code in (404, 405), answer.text
        assert str(root) not in answer.text


def test_large_batches_and_long_texts_are_refused(server):
    assert server.predict("mood", [["a"]] * 10_000).status_code == 413
    assert server.predict(["mood", "news"], [["a"]] * 200).status_code == 413
    assert server.predict("mood", "a " * 1_500_000).status_code == 413
    assert server.predict("mood", "a " * 100_000).status_code == 422
    assert server.predict("mood", TEXTS[0]).status_code == 200


@pytest.mark.slow
def test_memory_stays_flat_whatever_is_sent(server):
    def storm():
        for _ in range(4):
            server.predict("mood", "a " * 1_500_000)
            server.predict("mood", [["a"]] * 100_000)

    # Less than the smallest body, so nothing of a round stays in memory.
    assert growth(resident, storm) < 500_000


def test_a_full_queue_refuses_and_the_server_lives(root, engine):
    gate = threading.Event()

    def slowly(rows):
        gate.wait(30)
        return engine.run(rows)

    with Running(root, engine, run=slowly, max_queue=4, workers=1) as server, ThreadPoolExecutor(12) as pool:
        waiting = [pool.submit(server.predict, "mood", f"{number} people") for number in range(12)]
        for _ in range(500):
            if sum(one.done() for one in waiting) >= 8:
                break
            time.sleep(0.01)
        assert server.http.get("/livez").status_code == server.http.get("/readyz").status_code == 200
        gate.set()
        answers = [one.result() for one in waiting]
    assert Counter(answer.status_code for answer in answers) == {200: 4, 429: 8}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error_type"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1


def test_a_worker_that_hangs_shows(root, engine):
    gate = threading.Event()

    def hanging(rows):
        gate.wait(30)
        return engine.run(rows)

    with (
        Running(root, engine, run=hanging, hung_after=1.5, workers=1) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        assert server.http.get("/livez").status_code == 200
        waiting = pool.submit(server.predict, "mood", "people")
        for _ in range(200):
            if (status := server.http.get("/livez").status_code) == 503:
                break
            time.sleep(0.1)
        assert status == 503
        gate.set()
        assert waiting.result().status_code == 200
        # The worker answers before it is ready for the next batch.
        for _ in range(200):
            if (status := server.http.get("/livez").status_code) == 200:
                break
            time.sleep(0.1)
        assert status == 200


def test_the_deadline_holds_while_a_batch_runs(root, engine):
    gate = threading.Event()

    def hanging(rows):
        gate.wait(30)
        return engine.run(rows)

    with Running(root, engine, run=hanging, workers=1, deadline_ms=300) as server:
        answer = server.predict("mood", "people")
        gate.set()
    assert (answer.status_code, answer.json()["error_type"]) == (504, "timeout")


def test_the_client_of_triton_asks_a_real_adapter(server, root):
    with triton.InferenceServerClient(server.url.removeprefix("http://")) as stock:
        (version,) = stock.get_model_metadata("news")["versions"]
        (before,) = stock.get_inference_statistics("news", version)["model_stats"]
        tensor = triton.InferInput("text", [len(TEXTS)], "BYTES")
        tensor.set_data_from_numpy(np.array(TEXTS, dtype=object))
        found = stock.infer("news", [tensor], model_version=version)
        (after,) = stock.get_inference_statistics("news", version)["model_stats"]
    alone = keras_peft.load(root / "news").predict(TEXTS)
    assert found.as_numpy("label").tolist() == [one.label for one in alone]
    for probs, one in zip(found.as_numpy("probs"), alone, strict=True):
        by_label = dict(zip(("a", "b", "c"), probs.tolist(), strict=True))
        assert by_label == pytest.approx(one.probabilities, abs=1e-4)
    assert after["inference_count"] - before["inference_count"] == len(TEXTS)
    assert after["execution_count"] - before["execution_count"] == 1
    assert after["inference_stats"]["compute_infer"]["ns"] > before["inference_stats"]["compute_infer"]["ns"]
    assert after["memory_usage"][0]["byte_size"] > 0


def test_a_bundle_with_other_labels_is_refused_by_every_route_that_loads(engine, tmp_path):
    write_bundle(tmp_path / "mood", seed=1)
    with (
        Running(tmp_path, engine, watch_s=0) as server,
        triton.InferenceServerClient(server.url.removeprefix("http://")) as stock,
    ):
        before = server.predict("mood", "people").json()
        write_bundle(tmp_path / "mood", seed=2, labels=("x", "y"))
        with pytest.raises(InferenceServerException, match="--allow-label-changes") as raised:
            stock.load_model("mood")
        assert raised.value.status() == "409"
        answer = server.http.post("/v1/load_lora_adapter", json={"lora_name": "mood"})
        assert answer.status_code == 409
        assert "--allow-label-changes" in answer.json()["error"]["message"]
        assert server.predict("mood", "people").json() == before
        shown = server.http.get("/v1/adapters/mood").json()
        assert (shown["state"], shown["generation"], shown["labels"]) == ("READY", 1, ["alpha", "beta"])
        assert "removes the labels alpha, beta, adds the labels x, y" in shown["reason"]
        assert [one["id"] for one in server.http.get("/v1/models").json()["data"][1:]] == ["mood"]
    with Running(tmp_path, engine, watch_s=0, allow_label_changes=True) as server:
        assert {one["label"] for one in server.predict("mood", "people").json()} == {"x", "y"}
        write_bundle(tmp_path / "mood", seed=1)
        assert server.http.post("/v2/repository/models/mood/load").json()["version"] == "2"
        assert {one["label"] for one in server.predict("mood", "people").json()} == {"alpha", "beta"}


def test_reloading_under_load_loses_and_mixes_nothing(root, engine, tmp_path):
    write_bundle(tmp_path / "mood", seed=1)
    with Running(tmp_path, engine, watch_s=0) as server:
        first = server.predict("mood", "people").json()
        write_bundle(tmp_path / "mood", seed=9)
        stop, answers = threading.Event(), []

        def ask():
            with httpx.Client(base_url=server.url, timeout=30) as http:
                while not stop.is_set():
                    answers.append(http.post("/predict", json={"inputs": "people", "adapter_id": "mood"}))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 30
        while len(answers) < 4:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert server.http.post("/v2/repository/models/mood/load").json()["version"] == "2"
        second = server.predict("mood", "people").json()
        for _ in range(5):
            assert server.http.post("/v2/repository/models/mood/load").status_code == 200
        stop.set()
        for thread in threads:
            thread.join()

    def score(scores):
        return {one["label"]: one["score"] for one in scores}

    assert {answer.status_code for answer in answers} == {200}
    assert score(first) != pytest.approx(score(second), abs=1e-3)
    seen = [score(answer.json()) for answer in answers]
    is_first = [one == pytest.approx(score(first), abs=1e-4) for one in seen]
    is_second = [one == pytest.approx(score(second), abs=1e-4) for one in seen]
    assert np.logical_xor(is_first, is_second).all()
    assert any(is_first)
    assert any(is_second)
