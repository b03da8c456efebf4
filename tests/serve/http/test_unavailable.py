"""An adapter that cannot answer is in no list of models, and requests for it hear why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from serve.fake import Service, client

REASON = "The adapter 'single' cannot be loaded. A file was modified."


def failed() -> Service:
    service = Service(names=("single", "pairs"))
    there = service.adapters.there
    there["single"] = replace(there["single"], state="FAILED", generation=0, reason=REASON, bundle=None)
    return service


def unloaded() -> Service:
    service = Service(names=("single", "pairs"))
    there = service.adapters.there
    there["single"] = replace(there["single"], state="UNLOADED", is_off=True)
    return service


@pytest.mark.parametrize("make", [failed, unloaded])
def test_no_list_of_models_has_it(make):
    with client(make()) as http:
        assert [one["id"] for one in http.get("/v1/models").json()["data"]] == ["tiny", "pairs"]
        info = http.get("/info").json()
        assert (info["adapters"], info["model_type"]) == (["pairs"], {"classifier": {"adapters": 1}})
        assert [one["name"] for one in http.post("/v2/repository/index", json={"ready": True}).json()] == [
            "pairs"
        ]


def test_the_lists_of_adapters_have_it_with_the_reason():
    with client(failed()) as http:
        (entry,) = [one for one in http.post("/v2/repository/index").json() if one["name"] == "single"]
        listed = {one["name"]: one for one in http.get("/v1/adapters").json()["data"]}
        assert http.get("/v1/adapters/single").json() == listed["single"]
    assert (entry["state"], entry["reason"]) == ("UNAVAILABLE", REASON)
    assert (listed["single"]["state"], listed["single"]["reason"]) == ("FAILED", REASON)


@pytest.mark.parametrize(("make", "words"), [(failed, REASON), (unloaded, "unloaded by an administrator")])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/single", None),
        ("/v2/models/single", None),
        ("/v2/models/single/ready", None),
        (
            "/v2/models/single/infer",
            {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [1], "data": ["a"]}]},
        ),
        ("/v1/models/single:predict", {"instances": ["a"]}),
        ("/v1/classify", {"model": "single", "input": "a"}),
        ("/v1/explain", {"model": "single", "input": "a"}),
        ("/predict", {"adapter_id": "single", "inputs": "a"}),
        ("/adapters/single", {"inputs": "a"}),
    ],
)
def test_requests_for_it_hear_why(make, words, path, body):
    with client(make()) as http:
        answer = http.get(path) if body is None else http.post(path, json=body)
    assert answer.status_code == 503
    error = answer.json()["error"]
    assert words in (error if isinstance(error, str) else error["message"])


def test_it_is_not_left_out_where_a_request_names_no_adapter():
    """Otherwise such a request would change its adapter when another one fails."""
    with client(failed()) as http:
        answer = http.post("/predict", json={"inputs": "a"})
    assert answer.status_code == 422
    assert "the adapters are single, pairs" in answer.json()["error"]


def test_an_adapter_that_keeps_its_previous_generation_stays_in_the_lists():
    service = failed()
    service.adapters.there["single"] = replace(service.adapters.there["single"], state="READY", generation=1)
    with client(service) as http:
        assert [one["id"] for one in http.get("/v1/models").json()["data"]] == ["tiny", "single", "pairs"]
        assert http.get("/v1/models/single").status_code == 200
