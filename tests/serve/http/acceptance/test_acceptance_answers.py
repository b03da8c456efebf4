"""Predictions: protocols, tasks, and several adapters in one request."""

from __future__ import annotations

import math
from typing import Any

import httpx2 as httpx
import numpy as np
import openai
import pytest
import tritonclient.http as triton
from huggingface_hub import InferenceClient
from tritonclient.utils import InferenceServerException

from serve.http.acceptance.running import ADMIN, NARROW, PAIRS, TEXTS, by_label, expected, together

# Five methods; 1, 2, 3, 5 and 7 outputs.
READ_TEXTS = ["mood", "news", "topics", "stars", "seven"]


def test_01_two_strings_for_an_adapter_of_single_texts_are_refused_with_the_remedy(server):
    answer = server.predict("mood", ["the model", "the people"])
    assert (answer.status_code, answer.json()["error_type"]) == (422, "validation")
    assert "to send a batch, wrap each text in a list: [[…], […]]" in answer.json()["error"]
    assert [len(one) for one in server.predict("mood", [["the model"], ["the people"]]).json()] == [2, 2]
    # An adapter for pairs reads them as one pair.
    assert set(by_label(server.predict("pairs", PAIRS[0]).json())) == {"no", "yes"}


def test_02_the_stock_client_of_hugging_face_works(server, root):
    client = InferenceClient(model=f"{server.url}/adapters/news", token=ADMIN)
    found = client.text_classification(TEXTS[0])
    assert {one.label: one.score for one in found} == pytest.approx(
        expected(root, "news", TEXTS[:1])[0], abs=1e-4
    )
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert len(client.text_classification(TEXTS[0], top_k=2)) == 2
    tagger = InferenceClient(model=f"{server.url}/adapters/tags", token=ADMIN)
    words = tagger.token_classification(TEXTS[0], aggregation_strategy="none", ignore_labels=[])
    assert [TEXTS[0][one.start : one.end] for one in words] == TEXTS[0].split()


def test_02_a_client_of_text_embeddings_inference_works(server, root):
    """This client expects a server with one model, so its key allows one adapter."""
    client = httpx.Client(base_url=server.url, headers={"authorization": f"Bearer {NARROW}"})
    with client:
        info = client.get("/info").json()
        assert info["model_type"] == {"classifier": {"adapters": 1}}
        limit = info["max_client_batch_size"]
        one = client.post("/predict", json={"inputs": TEXTS[0], "truncate": True, "raw_scores": False})
        batch = client.post(
            "/predict",
            json={"inputs": [[text] for text in TEXTS[:limit]], "truncation_direction": "Right"},
        )
        raw = client.post("/predict", json={"inputs": TEXTS[0], "raw_scores": True}).json()
        tokens = client.post("/tokenize", json={"inputs": TEXTS[0]}).json()
        refused = client.post("/predict", json={"inputs": TEXTS})
        assert [client.get(path).status_code for path in ("/health", "/metrics")] == [200, 200]
    alone = expected(root, "mood", TEXTS)
    assert by_label(one.json()) == pytest.approx(alone[0], abs=1e-4)
    assert [set(scores) for scores in one.json()] == [{"label", "score"}] * 2
    assert [by_label(scores) for scores in batch.json()] == [pytest.approx(own, abs=1e-4) for own in alone]
    assert sum(one["score"] for one in raw) != pytest.approx(1)
    assert {"id", "text", "special", "start", "stop"} == set(tokens[0][0])
    assert int(one.headers["x-compute-tokens"]) == len(tokens[0])
    assert {f"x-{part}-time" for part in ("total", "tokenization", "queue", "inference")} <= set(one.headers)
    assert (refused.status_code, set(refused.json())) == (422, {"error", "error_type"})


def test_02_the_client_of_openai_works(server, root):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=ADMIN, max_retries=0) as client:
        assert {"mood", "news"} < {one.id for one in client.models.list()}
        found = client.post("/classify", body={"model": "news", "input": TEXTS}, cast_to=object)
        with pytest.raises(openai.NotFoundError) as missing:
            client.models.retrieve("none")
        with pytest.raises(openai.AuthenticationError) as stranger:
            client.with_options(api_key="wrong" * 8).models.list()
    for datum, own in zip(found["data"], expected(root, "news", TEXTS), strict=True):
        assert dict(zip(found["classes"], datum["probs"], strict=True)) == pytest.approx(own, abs=1e-4)
    assert (missing.value.code, stranger.value.code) == ("model_not_found", "invalid_api_key")


def test_02_the_client_of_triton_works(server, root):
    key = {"authorization": f"Bearer {ADMIN}"}
    tensor = triton.InferInput("text", [len(TEXTS)], "BYTES")
    tensor.set_data_from_numpy(np.array(TEXTS, dtype=object))
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        (version,) = client.get_model_metadata("news", headers=key)["versions"]
        assert client.is_model_ready("news", version, headers=key)
        found = client.infer("news", [tensor], model_version=version, headers=key)
        (statistics,) = client.get_inference_statistics("news", version, headers=key)["model_stats"]
        with pytest.raises(InferenceServerException, match="A valid API key is required"):
            client.infer("news", [tensor])
    for probs, own in zip(found.as_numpy("probs").tolist(), expected(root, "news", TEXTS), strict=True):
        assert dict(zip("abc", probs, strict=True)) == pytest.approx(own, abs=1e-4)
    assert statistics["inference_count"] >= len(TEXTS)


def test_02_the_documented_requests_of_tensorflow_serving_work(server, root):
    status = server.http.get("/v1/models/news").json()["model_version_status"][0]
    assert (status["state"], status["status"]["error_code"]) == ("AVAILABLE", "OK")
    path = f"/v1/models/news/versions/{status['version']}"
    body = {"signature_name": "serving_default", "instances": [{"text": text} for text in TEXTS]}
    found = server.http.post(f"{path}:predict", json=body).json()["predictions"]
    classes = server.http.post(f"{path}:classify", json={"examples": body["instances"]}).json()["result"]
    for one, labels, own in zip(found, classes, expected(root, "news", TEXTS), strict=True):
        assert dict(zip("abc", one["probs"], strict=True)) == pytest.approx(own, abs=1e-4)
        assert dict(labels) == pytest.approx(own, abs=1e-4)
    missing = server.http.post("/v1/models/none:predict", json=body)
    assert (missing.status_code, type(missing.json()["error"])) == (404, str)


def test_03_scores_of_several_labels_are_independent_sigmoids(server, root):
    raw = by_label(server.predict("topics", raw_scores=True).json())
    answer = server.predict("topics").json()
    assert len(raw) == 5
    assert by_label(answer) == pytest.approx(
        {label: 1 / (1 + math.exp(-value)) for label, value in raw.items()}, abs=1e-5
    )
    assert sum(by_label(answer).values()) != pytest.approx(1, abs=0.05)
    assert by_label(answer) == pytest.approx(expected(root, "topics", TEXTS[:1])[0], abs=1e-4)
    assert {one["label"] for one in answer if one["said"]} == {
        label for label, score in by_label(answer).items() if score >= 0.5
    }
    body = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": TEXTS[:1]}]}
    tensors = server.http.post("/v2/models/topics/infer", json=body).json()["outputs"]
    labels = server.http.get("/v2/models/topics").json()["parameters"]["labels"]
    assert dict(zip(labels, tensors[1]["data"], strict=True)) == pytest.approx(by_label(answer), abs=1e-5)


def test_04_a_mixed_batch_answers_as_each_bundle_does_by_itself(server, root):
    kinds = {str(server.state(name)["methods"]) for name in READ_TEXTS}
    labels = {len(server.state(name)["labels"]) for name in READ_TEXTS}
    assert (len(kinds), labels) == (5, {0, 2, 3, 5, 7})
    before = [server.metric(f"batch_distinct_adapters_{part}") for part in ("sum", "count")]
    answer = server.predict(READ_TEXTS, TEXTS[0])
    adapters, batches = (
        server.metric(f"batch_distinct_adapters_{part}") - earlier
        for part, earlier in zip(("sum", "count"), before, strict=True)
    )
    # Five rows in two batches: at least three of them, with different methods and label counts, ran together.
    assert adapters == 5
    assert batches <= 2
    for name, scores in answer.json().items():
        assert by_label(scores) == pytest.approx(expected(root, name, TEXTS[:1])[0], abs=1e-4)


def test_04_requests_of_many_clients_for_many_adapters_at_once_answer_as_each_alone(server, root):
    asked = [(name, text) for name in READ_TEXTS for text in TEXTS]
    asked += [("pairs", pair) for pair in PAIRS]
    alone = {name: [] for name, _ in asked}
    for name in alone:
        alone[name] = expected(root, name, [text for other, text in asked if other == name])
    order = np.random.default_rng(0).permutation(len(asked) * 10) % len(asked)
    with together() as call:
        answers = [(asked[n], call(server.predict, *asked[n])) for n in order]
    for (name, text), answer in answers:
        place = (PAIRS if name == "pairs" else TEXTS).index(text)
        assert answer.result().status_code == 200
        assert by_label(answer.result().json()) == pytest.approx(alone[name][place], abs=1e-4)


@pytest.mark.parametrize("inputs", [TEXTS[0], [[text] for text in TEXTS]])
def test_19_several_adapters_in_one_request_answer_as_in_single_ones(server, inputs):
    fanned = server.predict([*READ_TEXTS, "tags"], inputs).json()
    assert list(fanned) == [*READ_TEXTS, "tags"]
    for name, scores in fanned.items():
        assert_like(scores, server.predict(name, inputs).json())
    texts = [inputs] if isinstance(inputs, str) else [text for (text,) in inputs]

    def classify(model: Any) -> Any:
        return server.http.post("/v1/classify", json={"model": model, "input": texts}).json()

    for name, one in classify(READ_TEXTS).items():
        assert_like(one["data"], classify(name)["data"])


def assert_like(one: Any, other: Any) -> None:
    """Checks that two responses are equal; numbers may differ by rounding."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert_like(value, other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for value, same in zip(one, other, strict=True):
            assert_like(value, same)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-4)
    else:
        assert one == other
