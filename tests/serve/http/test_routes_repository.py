from __future__ import annotations

import pytest

from serve.fake import Service, client


def test_loading_and_unloading_show_in_the_index():
    with client(Service(names=("single", "pairs"))) as http:

        def index(**body):
            return {one["name"]: one for one in http.post("/v2/repository/index", json=body).json()}

        assert index()["single"] == {"name": "single", "version": "1", "state": "READY", "reason": ""}
        assert http.post("/v2/repository/models/single/unload").status_code == 200
        assert index()["single"]["state"] == "UNAVAILABLE"
        assert list(index(ready=True)) == ["pairs"]
        assert http.post("/v2/repository/models/single/load", json={}).json()["version"] == "2"
        assert index()["single"]["state"] == "READY"
        assert http.post("/v2/repository/models/nothing/load").status_code == 404


def test_nothing_but_a_name_is_taken():
    with client() as http:
        answer = http.post("/v2/repository/models/single/load", json={"parameters": {"config": "{}"}})
        assert answer.status_code == 422
        assert http.post("/v2/repository/models/..%2Fsecret/load").status_code == 404


def test_the_tools_of_vllm_work_with_names():
    service = Service()
    with client(service) as http:
        body = {"lora_name": "single", "lora_path": "single"}
        assert http.post("/v1/load_lora_adapter", json=body).text.startswith("Success")
        assert service.adapters.there["single"].generation == 2
        assert http.post("/v1/unload_lora_adapter", json={"lora_name": "single"}).status_code == 200
        assert service.adapters.there["single"].state == "UNLOADED"
        answer = http.post("/v1/load_lora_adapter", json={"lora_name": "single", "lora_path": "/etc"})
    assert answer.status_code == 400
    assert "/etc" not in answer.text


@pytest.mark.parametrize("path", ["/v2/repository/models/single/load", "/v1/load_lora_adapter"])
def test_a_server_without_administration_has_none(path):
    service = Service()
    with client(service, admin=False) as http:
        assert http.post(path, json={"lora_name": "single"}).status_code in (404, 405)
    assert service.adapters.there["single"].generation == 1


def test_what_is_known_of_an_adapter():
    with client() as http:
        listed = http.get("/v1/adapters").json()["data"]
        one = http.get("/v1/adapters/single").json()
        assert http.get("/v1/adapters/nothing").status_code == 404
    assert [adapter["name"] for adapter in listed] == list(Service().names)
    assert (one["state"], one["generation"], one["task"], one["methods"]) == (
        "READY",
        1,
        "single-label",
        ["lora"],
    )
    assert one["options"] == [{"rank": 8}]
    assert "/secret" not in str(listed)
