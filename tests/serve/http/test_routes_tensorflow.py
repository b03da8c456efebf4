from __future__ import annotations

from dataclasses import replace

import pytest

from serve.fake import LABELS, Service, client


def test_instances_become_predictions():
    service = Service()
    with client(service) as http:
        answer = http.post("/v1/models/single:predict", json={"instances": ["abc", {"text": "abcd"}]}).json()
    assert service.asked[0][1] == ["abc", "abcd"]
    first = answer["predictions"][0]
    assert (first["label"], first["score"]) == ("beta", max(first["probs"]))


def test_each_task_answers_with_its_own_keys():
    with client() as http:

        def predicted(name, instance):
            return http.post(f"/v1/models/{name}:predict", json={"instances": [instance]}).json()[
                "predictions"
            ][0]

        assert predicted("pairs", {"text": "a", "text_pair": "b"})["label"] == "yes"
        assert predicted("number", "abc")["value"] == 3.0
        unsure = predicted("unsure", "abc")
        assert (unsure["label"], unsure["score"]) == (None, None)
        assert predicted("tags", "a blue room")["tags"] == ["O", "B-room", "I-room"]


def test_what_cannot_be_read_is_refused():
    with client() as http:
        assert http.post("/v1/models/single:predict", json={"instances": []}).status_code == 422
        assert http.post("/v1/models/nothing:predict", json={"instances": ["a"]}).status_code == 404


def test_every_advertised_version_can_be_used():
    with client() as http:
        for name in Service().names:
            text = {"text": "a b", "text_pair": "c"} if name == "pairs" else "a b"
            status = http.get(f"/v1/models/{name}").json()
            (version,) = [one["version"] for one in status["model_version_status"]]
            path = f"/v1/models/{name}/versions/{version}"
            assert http.get(path).json() == {
                "model_version_status": [
                    {
                        "version": version,
                        "state": "AVAILABLE",
                        "status": {"error_code": "OK", "error_message": ""},
                    }
                ]
            }
            body = {"signature_name": "serving_default", "instances": [text]}
            plain = http.post(f"/v1/models/{name}:predict", json=body)
            assert http.post(f"{path}:predict", json=body).json() == plain.json()
            metadata = http.get(f"{path}/metadata").json()
            assert metadata == http.get(f"/v1/models/{name}/metadata").json()
            assert metadata["model_spec"] == {"name": name, "signature_name": "", "version": version}
            signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
            assert list(signature["inputs"]) == (["text", "text_pair"] if name == "pairs" else ["text"])
            assert set(signature["outputs"]) <= set(plain.json()["predictions"][0])


def test_the_metadata_has_the_documented_form():
    with client() as http:
        found = http.get("/v1/models/single/metadata").json()["metadata"]["signature_def"]["signature_def"]
    assert found["serving_default"]["method_name"] == "tensorflow/serving/predict"
    assert found["serving_default"]["inputs"]["text"] == {
        "dtype": "DT_STRING",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": "text",
    }
    probs = found["serving_default"]["outputs"]["probs"]
    assert (probs["dtype"], [one["size"] for one in probs["tensor_shape"]["dim"]]) == (
        "DT_FLOAT",
        ["-1", "3"],
    )


@pytest.mark.parametrize("version", ["2", "0", "01", "latest"])
def test_another_version_is_not_found(version):
    service = Service()
    path = f"/v1/models/single/versions/{version}"
    with client(service) as http:
        answers = [http.get(path), http.get(f"{path}/metadata")]
        answers += [http.post(f"{path}:predict", json={"instances": ["a"]})]
        answers += [
            http.post(f"{path}:{method}", json={"examples": [{"text": "a"}]})
            for method in ("classify", "regress")
        ]
    for answer in answers:
        assert answer.status_code == 404
        assert "its version is 1" in answer.json()["error"]
    assert not service.asked


@pytest.mark.parametrize(
    ("state", "version", "told"),
    [("UNLOADED", "2", "START"), ("LOADING", "2", "LOADING"), ("DRAINING", "1", "UNLOADING")],
)
def test_the_state_of_a_version(state, version, told):
    service = Service()
    service.adapters.there["single"] = replace(service.adapters.there["single"], state=state)
    with client(service) as http:
        (found,) = http.get("/v1/models/single").json()["model_version_status"]
        assert (found["version"], found["state"]) == (version, told)
        assert http.get(f"/v1/models/single/versions/{version}").status_code == 200
        if state == "UNLOADED":
            # A request loads the version that the status advertises.
            answer = http.post(f"/v1/models/single/versions/{version}:predict", json={"instances": ["a"]})
            assert answer.status_code == 200


def test_examples_are_classified_or_get_a_number():
    with client() as http:

        def result(name, method, *examples):
            answer = http.post(f"/v1/models/{name}:{method}", json={"examples": list(examples)})
            return answer.json().get("result", (answer.status_code, answer.json().get("error")))

        first, second = result("single", "classify", {"text": "abc"}, {"text": "abcd"})
        assert {label for label, _ in first} == set(LABELS)
        assert [score for _, score in first] == sorted((score for _, score in first), reverse=True)
        assert first[0][0] == "beta"
        assert first != second
        assert result("pairs", "classify", {"text": "a", "text_pair": "b"})[0][0][0] == "yes"
        assert result("number", "regress", {"text": "abc"}) == [3.0]
        assert result("number", "classify", {"text": "abc"})[1].endswith("use :regress.")
        assert result("tags", "classify", {"text": "abc"})[1].endswith("use :predict.")
        assert result("single", "regress", {"text": "abc"})[0] == 422
        assert result("single", "classify")[1] == "`examples` is empty; expected at least one text."


@pytest.mark.parametrize(
    ("method", "body", "field"),
    [
        ("predict", {"instances": ["a"], "signature_name": "other"}, "signature_name"),
        ("classify", {"examples": [{"text": "a"}], "context": {"text_pair": "b"}}, "context"),
    ],
)
def test_what_would_be_ignored_is_refused(method, body, field):
    with client() as http:
        answer = http.post(f"/v1/models/single:{method}", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(f"`{field}`: expected")
