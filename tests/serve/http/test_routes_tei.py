from __future__ import annotations

import pytest

from serve.fake import LABELS, Service, client


def test_a_text_gets_its_labels_the_most_probable_first():
    with client() as http:
        answer = http.post("/predict", json={"inputs": "hello", "adapter_id": "single"})
    assert answer.status_code == 200
    scores = answer.json()
    assert {one["label"] for one in scores} == set(LABELS)
    assert [one["score"] for one in scores] == sorted((one["score"] for one in scores), reverse=True)
    assert sum(one["score"] for one in scores) == pytest.approx(1)
    assert all(set(one) == {"label", "score"} for one in scores)


def test_a_batch_gets_a_list_for_each_text():
    with client() as http:
        alone = [
            http.post("/predict", json={"inputs": text, "adapter_id": "single"}).json()
            for text in ("ab", "abcde")
        ]
        batch = http.post("/predict", json={"inputs": [["ab"], ["abcde"]], "adapter_id": "single"}).json()
        of_one = http.post("/predict", json={"inputs": ["ab"], "adapter_id": "single"}).json()
    assert batch == alone
    assert of_one == alone[0]


def test_a_list_of_strings_for_an_adapter_of_single_texts_is_refused_with_the_remedy():
    with client() as http:
        answer = http.post("/predict", json={"inputs": ["one", "two"], "adapter_id": "single"})
    assert answer.status_code == 422
    assert answer.json()["error_type"] == "validation"
    assert (
        "the adapter 'single' reads one text at a time; to send a batch, wrap each text"
        in answer.json()["error"]
    )


@pytest.mark.parametrize("inputs", [["one", "two"], [["one", "two"]]])
def test_pairs(inputs):
    service = Service()
    with client(service) as http:
        answer = http.post("/predict", json={"inputs": inputs, "adapter_id": "pairs"})
    assert answer.status_code == 200
    assert service.asked[0][1] == [["one", "two"]]


def test_several_adapters_answer_as_each_alone_does():
    names = ["single", "several", "number"]
    with client() as http:
        for inputs in ("hello", [["hello"], ["you"]]):
            alone = {
                name: http.post("/predict", json={"inputs": inputs, "adapter_id": name}).json()
                for name in names
            }
            together = http.post("/predict", json={"inputs": inputs, "adapter_id": names}).json()
            assert together == alone


def test_the_only_adapter_needs_no_name_and_several_are_listed():
    with client(Service(names=("single",))) as http:
        assert http.post("/predict", json={"inputs": "hello"}).status_code == 200
    with client(Service(names=("single", "pairs"))) as http:
        answer = http.post("/predict", json={"inputs": "hello"})
    assert answer.status_code == 422
    assert "single, pairs" in answer.json()["error"]


def test_each_task_is_answered_as_it_is():
    with client() as http:

        def scores(name, **options):
            return http.post("/predict", json={"inputs": "abc", "adapter_id": name, **options}).json()

        # Independent scores, and whether each reaches its threshold.
        several = scores("several")
        assert sum(one["score"] for one in several) != pytest.approx(1)
        assert {one["said"] for one in several} == {True, False}
        # A number without an output function.
        assert scores("number") == [{"label": "value", "score": 3.0 + 2.0 * 0.0}]
        # Below the abstention threshold, no label is predicted, and the response shows it.
        assert [one["said"] for one in scores("unsure")] == [False] * 3
        # The raw outputs of the head.
        assert [one["score"] for one in scores("single", raw_scores=True)] == [3.0, 0.0, -1.0]
        assert len(scores("single", top_k=2)) == 2


def test_tags_are_entities_with_their_places():
    text = "The blue room, the room."
    with client() as http:
        found = http.post("/predict", json={"inputs": text, "adapter_id": "tags"}).json()
    assert [(one["entity_group"], one["word"]) for one in found] == [("room", "blue room"), ("room", "room")]
    assert [text[one["start"] : one["end"]] for one in found] == ["blue room", "room"]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "`inputs`: expected a text"),
        ({"inputs": 3}, 422, "`inputs`: expected a text"),
        ({"inputs": [], "adapter_id": "single"}, 422, "`inputs` is empty"),
        ({"inputs": "a", "adapter_id": []}, 422, "name at least one"),
        ({"inputs": "a", "adapter_id": "nothing"}, 404, "There is no adapter"),
        (
            {"inputs": "a", "adapter_id": "single", "truncation_direction": "left"},
            422,
            "only truncated on the right",
        ),
        ({"inputs": "a", "adapter_id": "single", "top_k": 0}, 422, "`top_k`: expected"),
        ([], 422, "Expected a JSON object with `inputs`"),
    ],
)
def test_the_error_names_what_cannot_be_read(body, status, words):
    with client() as http:
        answer = http.post("/predict", json=body)
    assert answer.status_code == status
    assert words in answer.json()["error"]


def test_truncation_is_passed_on():
    service = Service()
    with client(service) as http:
        http.post("/predict", json={"inputs": "a", "adapter_id": "single", "truncate": False})
        http.post("/predict", json={"inputs": "a", "adapter_id": "single", "truncation_direction": "Right"})
    assert [truncate for *_, truncate in service.asked] == [False, True]


def test_what_it_took_is_in_the_headers():
    with client() as http:
        answer = http.post("/predict", json={"inputs": "one two three", "adapter_id": "single"})
    assert answer.headers["x-compute-tokens"] == "3"
    assert [answer.headers[f"x-{part}-time"] for part in ("tokenization", "queue", "inference")] == [
        "1",
        "2",
        "3",
    ]
    assert int(answer.headers["x-total-time"]) >= 0


def test_info_shows_the_limits_and_no_paths():
    with client(max_texts=17) as http:
        answer = http.get("/info")
    info = answer.json()
    assert (info["model_id"], info["max_client_batch_size"], info["max_input_length"]) == ("tiny", 17, 128)
    assert "/secret" not in answer.text


def test_tokens_of_a_text_and_of_several():
    with client() as http:
        assert http.post("/tokenize", json={"inputs": "one"}).json()[0][0]["text"] == "one"
        assert len(http.post("/tokenize", json={"inputs": ["one", "two"]}).json()) == 2
