import pytest

from keras_peft import tasks
from keras_peft.errors import OptionError


@pytest.mark.parametrize(
    ("row", "name", "texts", "label"),
    [
        ({"text": "a", "label": "b"}, "single-label", ("text",), "label"),
        ({"text": "a", "label": 3}, "single-label", ("text",), "label"),
        ({"text": "a", "label": 3.5}, "regression", ("text",), "label"),
        ({"text": "a", "label": ["b"]}, "multi-label", ("text",), "label"),
        ({"text": "a", "labels": "b|c"}, "multi-label", ("text",), "labels"),
        ({"text_a": "a", "text_b": "b", "label": "c"}, "pairs", ("text_a", "text_b"), "label"),
        ({"text_a": "a", "text_b": "b", "label": 0.5}, "regression", ("text_a", "text_b"), "label"),
        ({"text_a": "a", "text_b": "b", "labels": ["c"]}, "multi-label", ("text_a", "text_b"), "labels"),
        ({"tokens": ["a"], "tags": ["O"]}, "token-labels", ("tokens",), "tags"),
        ({"text": "a", "label": "b", "tokens": ["a"], "tags": ["O"]}, "single-label", ("text",), "label"),
        ({"body": "a"}, "single-label", ("text",), "label"),
    ],
)
def test_the_task_is_read_from_the_columns(row, name, texts, label):
    task, *columns = tasks.choose([row])
    assert (task.name, *columns) == (name, texts, label)


def test_columns_of_other_names():
    row = {"one": "a", "two": "b", "score": 0.5, "kind": "x"}
    found = tasks.choose([row], text_columns=["one"], label_column="kind")
    assert (found[0].name, *found[1:]) == ("single-label", ("one",), "kind")
    found = tasks.choose([row], text_columns=["one", "two"], label_column="kind")
    assert (found[0].name, *found[1:]) == ("pairs", ("one", "two"), "kind")
    found = tasks.choose([row], text_columns=["one", "two"], label_column="score")
    assert (found[0].name, *found[1:]) == ("regression", ("one", "two"), "score")


def test_a_named_task_is_kept():
    row = {"text": "a", "label": 3, "tokens": ["a"], "tags": ["O"]}
    assert tasks.choose([row], tasks.find("regression"))[1:] == (("text",), "label")
    assert tasks.choose([row], tasks.find("token-labels"))[1:] == (("tokens",), "tags")


def test_a_task_that_is_not_there():
    with pytest.raises(OptionError, match=r"no task 'multilabel'.* Did you mean 'multi-label'"):
        tasks.find("multilabel")
