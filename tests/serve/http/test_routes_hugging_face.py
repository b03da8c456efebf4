from __future__ import annotations

from hashlib import sha256

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from keras_peft.serve.keys import Key, Keys
from serve.fake import Service, client, running


def test_the_stock_client_classifies_texts_and_tags_words():
    with running(Service()) as server:
        found = InferenceClient(model=f"{server.url}/adapters/single").text_classification("hello", top_k=2)
        assert [one.label for one in found] == ["alpha", "beta"]
        assert found[0].score > found[1].score > 0
        raw = InferenceClient(model=f"{server.url}/adapters/single").text_classification(
            "hello", function_to_apply="none"
        )
        assert [one.score for one in raw] == [2.0, 0.0, -2.0]

        tagger = InferenceClient(model=f"{server.url}/adapters/tags")
        (room,) = tagger.token_classification("the blue room")
        assert (room.entity_group, room.word, room.start, room.end) == ("room", "blue room", 4, 13)
        words = tagger.token_classification("the blue room", aggregation_strategy="none")
        assert [(one.entity, one.word) for one in words] == [("B-room", "blue"), ("I-room", "room")]
        every = tagger.token_classification(
            "the blue room", aggregation_strategy="none", ignore_labels=["I-room"]
        )
        assert [one.word for one in every] == ["the", "blue"]


def test_the_stock_client_needs_no_path_where_there_is_one_adapter():
    with running(Service(names=("single",))) as server:
        assert InferenceClient(model=server.url).text_classification("hello")[0].label == "alpha"
    with running(Service()) as server, pytest.raises(HfHubHTTPError, match="422"):
        InferenceClient(model=server.url).text_classification("hello")


def test_the_stock_client_shows_the_message_of_an_error():
    keys = Keys([Key("data", sha256(b"d" * 24).digest())])
    with running(Service(), keys=keys) as server:
        for name, key, words in (
            ("nothing", "d" * 24, "There is no adapter of that name"),
            ("pairs", "d" * 24, "Expected 2 texts together"),
            ("single", "wrong" * 8, "A valid API key is required"),
        ):
            stock = InferenceClient(model=f"{server.url}/adapters/{name}", token=key)
            with pytest.raises(HfHubHTTPError, match=words):
                stock.text_classification("hello")


def test_a_text_a_pair_and_a_batch():
    service = Service()
    with client(service) as http:
        one = http.post("/adapters/pairs", json={"inputs": {"text": "a", "text_pair": "b"}}).json()
        two = http.post("/adapters/single", json={"inputs": ["a", {"text": "b"}]}).json()
    assert [names for names, *_ in service.asked] == [["pairs"], ["single"]]
    assert [texts for _, texts, *_ in service.asked] == [[["a", "b"]], ["a", "b"]]
    assert (len(one), len(two)) == (1, 2)


def test_another_function_is_applied_to_what_the_head_gave():
    with client() as http:

        def scores(name, function):
            body = {"inputs": "abc", "parameters": {"function_to_apply": function}}
            return {one["label"]: one["score"] for one in http.post(f"/adapters/{name}", json=body).json()[0]}

        assert sum(scores("several", "softmax").values()) == pytest.approx(1)
        assert scores("several", "none") == {"alpha": 0.0, "beta": 3.0, "gamma": -1.0}
        assert scores("single", "sigmoid")["alpha"] == pytest.approx(0.5)


def test_what_it_does_not_know_is_refused():
    with client() as http:
        answer = http.post(
            "/adapters/single", json={"inputs": "a", "parameters": {"function_to_apply": "cube"}}
        )
        assert answer.status_code == 422
        assert "`parameters`: expected" in answer.json()["error"]
        assert http.post("/adapters/single", json={"inputs": []}).status_code == 422
        assert http.post("/adapters/nothing", json={"inputs": "a"}).status_code == 404
