from __future__ import annotations

import pytest

from serve.engine import Identity, Sums
from serve.fake import LABELS, Service, client


def test_a_list_is_always_a_batch():
    service = Service()
    with client(service) as http:
        answer = http.post("/v1/classify", json={"model": "single", "input": ["ab", "abc"]}).json()
    assert service.asked[0][1] == ["ab", "abc"]
    assert (answer["object"], answer["model"], answer["classes"]) == ("list", "single", list(LABELS))
    assert [one["index"] for one in answer["data"]] == [0, 1]
    first = answer["data"][0]
    assert first["label"] == LABELS[first["probs"].index(max(first["probs"]))]
    assert first["num_classes"] == 3
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 0, "total_tokens": 2}


def test_each_task_answers_with_its_own_keys():
    with client() as http:
        names = ["unsure", "several", "number", "tags"]
        answer = http.post("/v1/classify", json={"model": names, "input": "abc"}).json()
    said = {name: answer[name]["data"][0] for name in names}
    assert said["unsure"]["label"] is None
    assert said["several"]["labels"] == ["beta", "alpha"]
    assert sum(said["several"]["probs"]) != pytest.approx(1)
    assert (said["number"]["value"], said["number"]["probs"]) == (3.0, [])
    assert said["tags"]["tags"] == ["O"]


def test_what_the_head_gave():
    with client() as http:
        body = {"model": "single", "input": "abc", "use_activation": False}
        assert http.post("/v1/classify", json=body).json()["data"][0]["probs"] == [0.0, 3.0, -1.0]


def test_models_are_the_base_and_its_adapters():
    with client() as http:
        listed = http.get("/v1/models").json()
        assert [one["id"] for one in listed["data"]] == ["tiny", *Service().names]
        assert [one["parent"] for one in listed["data"][:2]] == [None, "tiny"]
        for one in listed["data"]:
            assert one.items() <= http.get(f"/v1/models/{one['id']}").json().items()
        assert http.get("/v1/models/nothing").status_code == 404


def test_a_base_of_a_hub_is_a_model_too():
    service = Service()
    service.engine = Sums(Identity("hf://owner/name"))
    with client(service) as http:
        assert http.get("/v1/models").json()["data"][0]["id"] == "hf://owner/name"
        assert http.get("/v1/models/hf:%2F%2Fowner%2Fname").json()["id"] == "hf://owner/name"


def test_nothing_to_predict_is_refused():
    with client() as http:
        assert http.post("/v1/classify", json={"model": "single", "input": []}).status_code == 400
        assert http.post("/v1/classify", json={"input": "a"}).status_code == 400
