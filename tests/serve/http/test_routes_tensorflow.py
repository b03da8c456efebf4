from __future__ import annotations

from serve.fake import Service, client


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
