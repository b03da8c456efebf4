"""The client of Triton asks for metadata, configuration, statistics and predictions, with and without a version."""

from __future__ import annotations

import json
from hashlib import sha256

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from keras_peft.serve.failures import Overloaded
from keras_peft.serve.keys import Key, Keys
from serve.fake import LABELS, Service, client, running


@pytest.fixture(scope="module")
def service():
    return Service()


@pytest.fixture(scope="module")
def stock(service):
    with running(service) as server, triton.InferenceServerClient(f"127.0.0.1:{server.port}") as stock:
        yield stock


def texts(*given, name="text"):
    tensor = triton.InferInput(name, [len(given)], "BYTES")
    tensor.set_data_from_numpy(np.array(given, dtype=object))
    return tensor


def test_the_server_and_its_models(stock):
    assert stock.is_server_live()
    assert stock.is_server_ready()
    assert stock.get_server_metadata()["extensions"] == [
        "model_configuration",
        "model_repository",
        "statistics",
    ]
    assert {one["name"] for one in stock.get_model_repository_index()} == set(Service().names)


@pytest.mark.parametrize("name", Service().names)
def test_every_advertised_version_can_be_used(stock, name):
    known = stock.get_model_metadata(name)
    inputs = [texts("a b", name=one["name"]) for one in known["inputs"]]
    assert known["versions"]
    for version in known["versions"]:
        assert stock.is_model_ready(name, version)
        assert stock.get_model_metadata(name, version) == known
        assert stock.get_model_config(name, version) == stock.get_model_config(name)
        found = stock.infer(name, inputs, model_version=version)
        assert found.get_response()["model_version"] == version
        for one in known["outputs"]:
            assert found.as_numpy(one["name"]).ndim == len(one["shape"])
        (own,) = stock.get_inference_statistics(name, version)["model_stats"]
        assert (own["name"], own["version"]) == (name, version)


def test_a_version_follows_the_generation(stock, service):
    (before,) = stock.get_model_metadata("unsure")["versions"]
    stock.load_model("unsure")
    (after,) = stock.get_model_metadata("unsure")["versions"]
    assert int(after) == int(before) + 1
    assert stock.is_model_ready("unsure", after)
    assert not stock.is_model_ready("unsure", before)
    for ask in (
        lambda: stock.infer("unsure", [texts("a")], model_version=before),
        lambda: stock.get_model_metadata("unsure", before),
        lambda: stock.get_model_config("unsure", before),
        lambda: stock.get_inference_statistics("unsure", before),
        lambda: stock.get_model_metadata("unsure", "latest"),
    ):
        asked = len(service.asked)
        with pytest.raises(InferenceServerException, match=f"its version is {after}") as raised:
            ask()
        assert raised.value.status() == "404"
        assert len(service.asked) == asked


def test_a_reload_during_a_request_does_not_answer_for_another_version():
    service = Service()
    predict = service.predict

    async def reloading(*args, **options):
        await service.adapters.load("single")
        return await predict(*args, **options)

    service.predict = reloading
    with client(service) as http:
        body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]}
        answer = http.post("/v2/models/single/versions/1/infer", json=body)
        assert http.post("/v2/models/single/infer", json=body).json()["model_version"] == "3"
    assert answer.status_code == 404
    assert "its version is 2" in answer.json()["error"]


def test_a_model_that_is_not_there_is_not_found(stock):
    for ask in (
        lambda: stock.get_model_metadata("nothing"),
        lambda: stock.get_model_config("nothing"),
        lambda: stock.get_inference_statistics("nothing", "1"),
        lambda: stock.infer("nothing", [texts("a")], model_version="1"),
    ):
        with pytest.raises(InferenceServerException) as raised:
            ask()
        assert raised.value.status() == "404"
    assert not stock.is_model_ready("nothing", "1")


def test_the_configuration_says_what_the_metadata_says(stock):
    found = stock.get_model_config("single")
    assert found["max_batch_size"] == 0
    assert found["input"] == [{"name": "text", "data_type": "TYPE_STRING", "dims": [-1]}]
    assert found["output"] == [
        {"name": "label", "data_type": "TYPE_STRING", "dims": [-1]},
        {"name": "probs", "data_type": "TYPE_FP32", "dims": [-1, 3]},
    ]
    assert json.loads(found["parameters"]["labels"]["string_value"]) == list(LABELS)
    assert [one["name"] for one in stock.get_model_config("pairs")["input"]] == ["text", "text_pair"]
    assert stock.get_model_config("number")["output"] == [
        {"name": "value", "data_type": "TYPE_FP32", "dims": [-1]}
    ]


def test_the_statistics_count_requests_and_texts(stock, service):
    def counted(name):
        (own,) = stock.get_inference_statistics(name)["model_stats"]
        return own

    stock.load_model("several")
    none = counted("several")
    assert (none["inference_count"], none["execution_count"], none["last_inference"]) == (0, 0, 0)
    stock.infer("several", [texts("a", "b")])
    stock.infer("several", [texts("c")])
    service.fails = Overloaded("It is full.", retry_after=1)
    with pytest.raises(InferenceServerException, match="It is full") as raised:
        stock.infer("several", [texts("d")])
    assert raised.value.status() == "429"
    service.fails = None
    found = counted("several")
    assert (found["inference_count"], found["execution_count"]) == (3, 2)
    assert found["last_inference"] > 1_700_000_000_000
    times = found["inference_stats"]
    assert (times["success"]["count"], times["fail"]["count"]) == (2, 1)
    assert times["success"]["ns"] > 0
    # Twice the times that the fake service reports.
    assert times["compute_input"] == {"count": 2, "ns": 2_000_000}
    assert times["queue"] == {"count": 2, "ns": 4_000_000}
    assert times["compute_infer"] == {"count": 2, "ns": 6_000_000}
    every = stock.get_inference_statistics()["model_stats"]
    assert {one["name"] for one in every} == set(Service().names)
    assert found == next(one for one in every if one["name"] == "several")


def test_the_statistics_of_other_adapters_are_hidden():
    narrow = Keys([Key("narrow", sha256(b"n" * 24).digest(), adapters=frozenset({"single"}))])
    with client(keys=narrow, key="n" * 24) as http:
        assert [one["name"] for one in http.get("/v2/models/stats").json()["model_stats"]] == ["single"]
        assert http.get("/v2/models/pairs/stats").status_code == 404
        assert http.get("/v2/models/pairs/versions/1").status_code == 404
