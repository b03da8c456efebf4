"""Fine-tuning for every task, on a tiny base."""

from __future__ import annotations

import csv
import json
import random

import pytest

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from keras_peft.errors import DataError, OptionError
from keras_peft.training.fine_tune import fine_tune
from sampling import sample

WORDS = {"model": "alpha", "people": "beta", "time": "gamma"}
FILLERS = ["the", "and", "for", "with", "that", "this", "from"]


def rows_of(task, count=80):
    generator = random.Random(0)
    made = {}
    while len(made) < count:
        chosen = generator.sample(sorted(WORDS), generator.randint(0, 3))
        words = [*generator.choices(FILLERS, k=3), *chosen * 2]
        generator.shuffle(words)
        text = " ".join(words)
        made[text] = {
            "multi-label": {"text": text, "labels": [WORDS[word] for word in chosen]},
            "regression": {"text": text, "label": 10.0 + 2.5 * len(chosen)},
            "pairs": {
                "text_a": " ".join(words[:4]),
                "text_b": " ".join(words[4:] or ["and"]),
                "label": "yes" if "model" in chosen else "no",
            },
            "token-labels": {
                "tokens": words,
                "tags": [f"B-{WORDS[w]}" if w in WORDS else "O" for w in words],
            },
        }[task]
    return list(made.values())


LEAST = {"multi-label": 0.8, "regression": 0.7, "pairs": 0.8, "token-labels": 0.7}
# The tiny base mixes its words too much for a tagger on top of it, so the tagger trains the base too.
OWN = {
    "multi-label": {"epochs": 60},
    "token-labels": {"epochs": 60, "learning_rate": 2e-3, "method": keras_peft.FullFineTuning()},
}


@pytest.mark.slow
@pytest.mark.parametrize("task", sample(LEAST, "pairs", eager=False))
def test_it_learns_and_is_used(tmp_path, task):
    rows = rows_of(task)
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    settings = {"epochs": 20, "learning_rate": 2e-2, **OWN.get(task, {})}
    result = fine_tune(data, out=tmp_path / "b", base=str(TINY), layers="all", validation=0.2, **settings)
    assert result.report["task"] == task
    classifier = keras_peft.load(tmp_path / "b")
    examples = keras_peft.read_examples(data)
    scores = classifier.evaluate(examples)
    assert scores.main >= LEAST[task], scores.metrics
    assert scores.rows == len(rows)
    first = classifier.predict(examples.texts[:3])
    assert len(first) == 3
    json.dumps([prediction.to_json() for prediction in first])
    page = (tmp_path / "b" / "report.html").read_text()
    assert "validation rows" in page
    card = (tmp_path / "b" / "README.md").read_text()
    assert "token-classification" in card if task == "token-labels" else "text-classification" in card


@pytest.mark.slow
@pytest.mark.eager
def test_tokens_are_found_whatever_their_number(tmp_path):
    rows = rows_of("token-labels", 40)
    data = write_jsonl(tmp_path / "data.jsonl", rows)
    fine_tune(
        data,
        out=tmp_path / "b",
        base=str(TINY),
        epochs=1,
        max_length=6,
        method=keras_peft.PromptTuning(tokens=2),
    )
    classifier = keras_peft.load(tmp_path / "b")
    words = ("modelmodelmodel", "unbelievable", "x" * 300, "the", "\u200b", "and", "time")
    (prediction,) = classifier.predict([words])
    assert prediction.words == words
    assert len(prediction.tags) == len(words)
    assert classifier.predict(["the model, and time"])[0].words == ("the", "model", ",", "and", "time")


@pytest.mark.one_backend
def test_another_task_s_rows_are_refused(tmp_path, bundle):
    data = write_jsonl(tmp_path / "data.jsonl", rows_of("pairs"))
    with pytest.raises(DataError, match="was read for the task pairs .* was trained for single-label"):
        keras_peft.load(bundle).evaluate(keras_peft.read_examples(data))


@pytest.mark.one_backend
def test_tags_and_words_must_be_as_many(tmp_path):
    rows = [*rows_of("token-labels", 5), {"tokens": ["a", "b"], "tags": ["O"]}]
    with pytest.raises(DataError, match=r"1 row has a different number of tags and words \(row 6\)"):
        keras_peft.read_examples(write_jsonl(tmp_path / "d.jsonl", rows))


@pytest.mark.one_backend
def test_a_task_that_does_not_fit(tmp_path):
    data = write_jsonl(tmp_path / "d.jsonl", make_rows(6))
    with pytest.raises(DataError, match="6 rows have no label"):
        keras_peft.read_examples(data, task="regression")
    with pytest.raises(OptionError, match="no task 'rank'"):
        fine_tune(data, out=tmp_path / "b", task="rank")


@pytest.mark.one_backend
def test_multi_label_from_a_table_without_lists(tmp_path):
    with (tmp_path / "d.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["text", "labels"], ["one", "a|b"], ["two", ""], ["three", "b"]])
    assert keras_peft.read_examples(tmp_path / "d.csv").labels == (("a", "b"), (), ("b",))


@pytest.mark.slow
@pytest.mark.eager
def test_it_may_abstain(tmp_path, data):
    result = fine_tune(data, out=tmp_path / "b", base=str(TINY), epochs=3, validation=0.5, abstain_below=0.5)
    threshold = keras_peft.load(tmp_path / "b").task.abstain_below
    assert 0 < threshold <= 1
    assert result.report["validation"]["precision_of_answers"] >= 0.5
    assert "the classifier abstains below" in (tmp_path / "b" / "report.html").read_text()
    rows = write_jsonl(tmp_path / "d.jsonl", rows_of("regression", 20))
    with pytest.raises(OptionError, match="regression cannot abstain"):
        fine_tune(rows, out=tmp_path / "c", base=str(TINY), abstain_below=0.9)
    with pytest.raises(OptionError, match="expected a fraction above 0"):
        fine_tune(data, out=tmp_path / "c", base=str(TINY), abstain_below=1.5)


@pytest.mark.thorough
def test_long_texts_in_windows(tmp_path):
    # The words that decide the label are at the end, after the part that would be cut.
    generator = random.Random(0)

    def rows():
        for word in ("model", "people") * 40:
            words = [*generator.choices(FILLERS, k=generator.randint(8, 20)), *[word] * 6]
            yield {"text": " ".join(words), "label": WORDS[word]}

    data, others = (write_jsonl(tmp_path / f"{name}.jsonl", list(rows())) for name in ("data", "others"))
    settings = {"base": str(TINY), "epochs": 20, "learning_rate": 1e-2, "layers": "all", "max_length": 8}
    settings |= {"validation": 0.2}
    cut = fine_tune(data, out=tmp_path / "cut", **settings)
    read = fine_tune(data, out=tmp_path / "window", long_text="window", **settings)
    assert any('`long_text="window"`' in note for note in cut.report["notes"])
    assert read.report["notes"] == []
    examples = keras_peft.read_examples(others)
    accuracies = [keras_peft.load(tmp_path / name).evaluate(examples).main for name in ("cut", "window")]
    assert accuracies[0] < 0.8 <= accuracies[1]
    tagged = write_jsonl(tmp_path / "t.jsonl", rows_of("token-labels", 9))
    with pytest.raises(OptionError, match="Lists of words cannot be read in windows"):
        fine_tune(tagged, out=tmp_path / "x", base=str(TINY), long_text="window")
