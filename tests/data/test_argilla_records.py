"""Records of Argilla with values of types that no version writes: they are left out as not annotated."""

import pytest

import keras_peft

FLAT = {"text": "a text", "q.responses": ["a"], "q.responses.status": ["submitted"]}
NESTED = {"fields": {"text": "a text"}, "responses": {"q": [{"value": "a", "status": "submitted"}]}}
OLD = {"fields": {"text": "a text"}, "responses": [{"values": {"q": {"value": "a"}}, "status": "submitted"}]}


@pytest.mark.parametrize(
    ("record", "changes"),
    [
        (FLAT, {"q.responses": 3}),
        (FLAT, {"q.responses.status": 3}),
        (FLAT, {"q.responses.status": [["submitted"]]}),
        (NESTED, {"responses": {"q": 3}}),
        (NESTED, {"responses": {"q": [3, None]}}),
        (OLD, {"responses": [3]}),
        (OLD, {"responses": [{"values": 3}]}),
        (OLD, {"responses": [{"values": {"q": 3}}]}),
    ],
)
def test_a_record_of_wrong_types_is_left_out(record, changes):
    found = keras_peft.read_examples([record, record | changes, record])
    assert list(found.labels) == ["a", "a"]
    assert found.reading.left_out == {"not annotated": 1}
