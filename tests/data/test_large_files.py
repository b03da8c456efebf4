"""Training on and splitting texts that do not fit in memory: the same results, and bounded memory."""

from __future__ import annotations

import json
import random
import tracemalloc

import keras
import pytest

from conftest import TINY, make_rows, write_jsonl
from data.readers.test_readers import read, write
from keras_peft.data.examples import check_trainable, read_examples, split
from keras_peft.data.splitting import split_file
from keras_peft.data.writing import open_table
from keras_peft.inputs.text import TextEncoder
from keras_peft.progress import Progress
from keras_peft.store import OnDisk
from keras_peft.training.fine_tune import fine_tune
from sampling import sample

# These tests do not depend on tracing.
pytestmark = pytest.mark.eager

SETTINGS = {"base": str(TINY), "epochs": 2, "seed": 1, "validation": 0.2}
FILES = {
    "single-label": make_rows(40),
    "pairs": [
        {"text_a": row["text"], "text_b": row["text"][::-1], "label": row["label"]} for row in make_rows(40)
    ],
    "multi-label": [
        {"text": row["text"], "labels": [row["label"], "both"][: 1 + n % 2]}
        for n, row in enumerate(make_rows(40))
    ],
    "regression": [{"text": row["text"], "label": n / 3} for n, row in enumerate(make_rows(40))],
    "token-labels": [
        {"tokens": row["text"].split(), "tags": ["ab"[len(word) % 2] for word in row["text"].split()]}
        for row in make_rows(40)
    ],
}


def outcome(result):
    report = result.report
    kept = ("data", "notes", "history", "validation", "worst", "doubtful")
    return (result.bundle / "adapter.safetensors").read_bytes(), {key: report[key] for key in kept}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def on_disk(monkeypatch):
    def switch():
        monkeypatch.setenv("KERAS_PEFT_MEMORY", "0")

    return switch


@pytest.mark.slow
@pytest.mark.parametrize("task", sample(FILES, "token-labels"))
def test_the_weights_are_the_same_as_from_memory(tmp_path, monkeypatch, on_disk, task):
    data = write_jsonl(tmp_path / "d.jsonl", [*FILES[task], FILES[task][0]])
    inside = fine_tune(data, out=tmp_path / "inside", **SETTINGS)
    assert isinstance(read_examples(data).texts, tuple)
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "another cache"))
    on_disk()
    outside = fine_tune(data, out=tmp_path / "outside", **SETTINGS)
    assert isinstance(read_examples(data).texts, OnDisk)
    assert outcome(outside) == outcome(inside)
    assert "1 exact duplicate was removed" in outside.report["notes"]


@pytest.mark.thorough
def test_long_texts_in_windows_and_a_validation_file(tmp_path, on_disk):
    rows = [{**row, "text": " ".join([row["text"]] * 4)} for row in make_rows(30)]
    data = write_jsonl(tmp_path / "d.jsonl", rows)
    others = write_jsonl(tmp_path / "v.jsonl", [*rows[:3], *make_rows(8, seed=1)])
    settings = {**SETTINGS, "validation": others, "long_text": "window", "max_length": 16}
    inside = fine_tune(data, out=tmp_path / "inside", **settings)
    on_disk()
    outside = fine_tune(data, out=tmp_path / "outside", **settings)
    assert outcome(outside) == outcome(inside)
    assert any("3 validation texts are also" in note for note in outside.report["notes"])


def test_bad_rows_are_reported_in_the_same_way(tmp_path, on_disk):
    rows = make_rows(12)
    rows += [{"text": "", "label": "alpha"}, {"text": rows[0]["text"], "label": "gamma"}]
    data = write_jsonl(tmp_path / "d.jsonl", rows)
    inside = read_examples(data, skip_bad_rows=True)
    on_disk()
    outside = read_examples(data, skip_bad_rows=True)
    assert list(outside.texts) == list(inside.texts)
    assert outside.notes == inside.notes
    assert outside.sha256 == inside.sha256


class Notes(Progress):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


class Interrupting(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt


@pytest.mark.thorough
def test_what_was_interrupted_goes_on_from_the_disk(tmp_path, data, on_disk):
    whole = fine_tune(data, out=tmp_path / "whole", **SETTINGS)
    on_disk()
    with pytest.raises(KeyboardInterrupt):
        fine_tune(data, out=tmp_path / "b", callbacks=[Interrupting()], **SETTINGS)
    resumed = fine_tune(data, out=tmp_path / "b", resume=True, **SETTINGS)
    assert outcome(resumed) == outcome(whole)


@pytest.mark.slow
def test_a_trunk_that_gives_too_much_to_be_kept_is_computed_in_each_epoch(tmp_path, data, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_CACHE_SIZE", "1000")
    notes = Notes()
    result = fine_tune(data, out=tmp_path / "b", progress=notes, **SETTINGS)
    plain = fine_tune(data, out=tmp_path / "plain", trunk_cache=False, **SETTINGS)
    assert result.report["cache"] is None
    assert [note for note in notes.notes if "are recomputed in each epoch" in note]
    assert (result.bundle / "adapter.safetensors").read_bytes() == (
        plain.bundle / "adapter.safetensors"
    ).read_bytes()


def write_texts(path, count):
    generator = random.Random(0)
    words = [row["text"] for row in make_rows(100)]
    with path.open("w") as file:
        for number in range(count):
            text = f"{number} {' '.join(generator.choices(words, k=4))}"
            file.write(json.dumps({"text": text, "label": "ab"[number % 2]}) + "\n")
    return path


def memory_of(path):
    """Returns the peak and the final number of bytes that Python and NumPy have allocated."""
    tokenizer = TextEncoder((TINY / "tokenizer.json").read_text(), 128)
    tracemalloc.start()
    try:
        examples = check_trainable(read_examples(path))
        sides = split(examples, 0.1, seed=0)
        tokens = [tokenizer(side.texts) for side in sides]
        targets = [examples.task.from_labels("ab").targets(side.labels) for side in sides]
        lengths = [one.lengths for one in tokens]
        del examples
        held, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(map(len, lengths)) == sum(map(len, targets)) == sum(map(len, sides))
    return most, held


@pytest.mark.thorough
def test_a_row_costs_the_same_few_bytes_however_long_its_text(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_MEMORY", "8MiB")
    few, many = 5_000, 20_000
    paths = [write_texts(tmp_path / f"{count}.jsonl", count) for count in (few, many)]
    assert paths[1].stat().st_size > 150 * many
    memory_of(paths[0])  # Excludes one-time allocations from the measurement.
    (most_few, held_few), (most_many, held_many) = map(memory_of, paths)
    assert held_many - held_few < 60 * (many - few)
    assert most_many - most_few < 80 * (many - few)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_a_split_is_the_same_as_from_memory(tmp_path, on_disk, ending):
    # More than the rows of one batch; the type of the second column shows in the last.
    rows = [
        {"text": f"{number} {row['text']}", "label": row["label"], "late": number if number > 4_150 else None}
        for number, row in enumerate(make_rows(100) * 42)
    ]
    path = write(tmp_path / f"d.{ending}", rows)
    inside = split_file(path, tmp_path / "inside")
    on_disk()
    outside = split_file(path, tmp_path / "outside")
    assert (outside.rows, outside.labels) == (inside.rows, inside.labels)
    for side, file in inside.files.items():
        assert read(outside.files[side]) == read(file)


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_a_table_written_in_pieces_is_one_table(tmp_path, ending):
    rows = [{"text": f"text {number}", "late": number if number > 15 else None} for number in range(20)]
    file = tmp_path / f"d{ending}"
    with open_table(file, ending, piece=1) as write_rows:
        for start in range(0, 20, 4):
            write_rows(rows[start : start + 4])
    assert read(file) == rows
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def memory_of_split(path):
    """Returns the peak number of bytes that Python and NumPy have allocated."""
    tracemalloc.start()
    try:
        split_file(path, path.with_suffix(".parts"), overwrite=True)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_split_holds_a_few_bytes_of_a_row(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_MEMORY", "8MiB")
    few, many = 5_000, 20_000
    paths = [write_texts(tmp_path / f"{count}.jsonl", count) for count in (few, many)]
    memory_of_split(paths[0])  # Excludes one-time allocations from the measurement.
    most_few, most_many = map(memory_of_split, paths)
    assert most_many - most_few < 80 * (many - few)
