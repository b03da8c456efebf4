from __future__ import annotations

import json
import struct

import pytest

from serve.fake import LABELS, Service, client


def tensor(name: str, texts: list[str], shape: list[int] | None = None) -> dict[str, object]:
    return {"name": name, "datatype": "BYTES", "shape": shape or [len(texts)], "data": texts}


def test_texts_become_labels_and_probabilities():
    with client() as http:
        body = {"id": "17", "inputs": [tensor("text", ["abc", "abcd"], [2, 1])]}
        answer = http.post("/v2/models/single/infer", json=body).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("single", "1", "17")
    label, probs = answer["outputs"]
    assert (label["name"], label["datatype"], label["shape"], label["data"][0]) == (
        "label",
        "BYTES",
        [2],
        "beta",
    )
    assert (probs["name"], probs["datatype"], probs["shape"], len(probs["data"])) == (
        "probs",
        "FP32",
        [2, 3],
        6,
    )


def test_each_task_has_its_tensors():
    with client() as http:

        def outputs(name, *inputs, **body):
            answer = http.post(f"/v2/models/{name}/infer", json={"inputs": list(inputs), **body}).json()
            return {one["name"]: one["data"] for one in answer["outputs"]}

        assert outputs("pairs", tensor("text", ["a"]), tensor("text_pair", ["b"]))["label"] == ["yes"]
        assert outputs("number", tensor("text", ["abc"])) == {"value": [3.0]}
        assert outputs("several", tensor("text", ["abc"]))["label"] == ["beta|alpha"]
        assert outputs("unsure", tensor("text", ["abc"]))["label"] == [""]
        assert outputs("tags", tensor("text", ["a blue room"])) == {"label": ["O B-room I-room"]}
        assert list(outputs("single", tensor("text", ["abc"]), outputs=[{"name": "probs"}])) == ["probs"]


@pytest.mark.parametrize("name", Service().names)
def test_the_metadata_is_what_is_answered(name):
    texts = [tensor("text", ["a b"]), tensor("text_pair", ["c"])]
    with client() as http:
        known = http.get(f"/v2/models/{name}").json()
        body = {"inputs": texts[: len(known["inputs"])]}
        answer = http.post(f"/v2/models/{name}/infer", json=body).json()
    assert [(one["name"], one["datatype"]) for one in known["outputs"]] == [
        (one["name"], one["datatype"]) for one in answer["outputs"]
    ]
    assert known["versions"] == ["1"]
    if name == "single":
        assert known["parameters"]["labels"] == list(LABELS)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"inputs": [tensor("text", ["a"], [2])]}, "the shape [2] of a tensor does not match"),
        ({"inputs": [tensor("text_pair", ["a"])]}, "expected the tensors text"),
        ({"inputs": [tensor("text", ["a", "b"]), tensor("text_pair", ["a"])]}, "different numbers of texts"),
        ({"inputs": [tensor("text", [])]}, "`inputs` is empty"),
        ({"inputs": [tensor("text", ["a"])], "outputs": [{"name": "colour"}]}, "are label, probs"),
        (
            {"inputs": [{"name": "text", "datatype": "FP32", "shape": [1], "data": [1.0]}]},
            "`inputs`: expected tensors",
        ),
    ],
)
def test_the_error_names_what_cannot_be_read(body, words):
    with client() as http:
        answer = http.post("/v2/models/single/infer", json=body)
    assert answer.status_code == 422
    assert words in answer.json()["error"]


def packed(*texts: str) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)


def parted(*tensors: tuple[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """A body with binary tensors after its JSON, as Triton's client sends it, and its headers."""
    inputs = [
        {"name": name, "datatype": "BYTES", "shape": [2], "parameters": {"binary_data_size": len(data)}}
        for name, data in tensors
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head)), "content-type": "application/octet-stream"}
    return head + b"".join(data for _, data in tensors), headers


def test_texts_in_binary_form_are_read():
    service = Service()
    with client(service) as http:
        content, headers = parted(("text", packed("abc", "grün")), ("text_pair", packed("", "b")))
        assert http.post("/v2/models/pairs/infer", content=content, headers=headers).status_code == 422
        content, headers = parted(("text", packed("abc", "grün")), ("text_pair", packed("a", "b")))
        answer = http.post("/v2/models/pairs/infer", content=content, headers=headers)
    assert answer.status_code == 200
    assert service.asked[-1][1] == [["abc", "a"], ["grün", "b"]]


@pytest.mark.parametrize(
    "data", [b"abc", packed("abc", "b")[:-1], packed("abc") + b"\xff\0\0\0", b"\1\0\0\0\xff" * 2]
)
def test_a_broken_binary_form_is_refused(data):
    with client() as http:
        content, headers = parted(("text", data))
        assert http.post("/v2/models/single/infer", content=content, headers=headers).status_code == 422
        headers["inference-header-content-length"] = "100000"
        assert http.post("/v2/models/single/infer", content=content, headers=headers).status_code == 400


def test_the_server_and_whether_an_adapter_is_ready():
    service = Service()
    with client(service) as http:
        assert "model_repository" in http.get("/v2").json()["extensions"]
        assert http.get("/v2/models/single/ready").json() == {"name": "single", "ready": True}
        http.post("/v2/repository/models/single/unload")
        assert http.get("/v2/models/single/ready").status_code == 503
        assert http.get("/v2/models/nothing/ready").status_code == 404
