"""Values in memory and on disk are the same."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_peft import store
from keras_peft.data.duplicates import contradictions, digests, equal_groups
from keras_peft.store import LABELS, TEXTS, Collector, OnDisk, arrays, pick

TEXT = st.text(max_size=8)
VALUES = {
    "texts": (TEXTS, TEXT),
    "pairs": (TEXTS, st.tuples(TEXT, TEXT)),
    "words": (TEXTS, st.lists(TEXT).map(tuple)),
    "labels": (LABELS, TEXT),
    "numbers": (LABELS, st.floats(allow_nan=False, allow_infinity=False)),
    "tags": (LABELS, st.lists(TEXT, max_size=3).map(tuple)),
}


@pytest.fixture
def on_disk(tmp_path, monkeypatch):
    """Keeps all collected values on disk."""
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_PEFT_MEMORY", "0")


def collected(form, values, in_memory):
    collector = Collector(form, most_bytes=in_memory)
    for value in values:
        collector.add(value)
    return collector.done()


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_they_are_what_was_added(kind, data):
    form, strategy = VALUES[kind]
    values = data.draw(st.lists(strategy, min_size=1, max_size=12))
    kept = collected(form, values, data.draw(st.sampled_from([0, 300])))
    assert len(kept) == len(values)
    assert list(kept) == values == [kept[row] for row in range(len(values))]
    assert kept[-1] == values[-1]
    rows = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=12))
    part = data.draw(st.slices(len(values)))
    assert list(kept[part]) == values[part]
    view = pick(kept, rows)
    assert list(view) == [values[row] for row in rows]
    assert list(pick(view, range(0, len(rows), 2))) == [values[row] for row in rows[::2]]
    assert values[0] in kept
    assert kept.count(values[0]) == values.count(values[0])
    with pytest.raises(IndexError):
        kept[len(values)]


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_arrays_keep_their_type(on_disk, dtype):
    collector = Collector(arrays(dtype))
    for length in (3, 0, 5):
        collector.add(np.arange(length, dtype=dtype))
    kept = collector.done()
    assert isinstance(kept, OnDisk)
    assert [one.tolist() for one in kept] == [[0, 1, 2], [], [0, 1, 2, 3, 4]]
    assert {one.dtype for one in kept} == {np.dtype(dtype)}


def test_few_are_a_tuple_and_many_a_file_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))
    assert collected(TEXTS, ["a", "b"], 1000) == ("a", "b")
    assert not (tmp_path / "cache").exists()
    kept = collected(TEXTS, ["a"] * 100, 1000)
    assert isinstance(kept, OnDisk)
    assert isinstance(kept[3:5], OnDisk)
    if sys.platform != "win32":
        assert list((tmp_path / "cache").iterdir()) == []
    file = kept._file._file
    view = pick(kept, [5])
    del kept
    assert list(view) == ["a"]
    del view
    gc.collect()
    assert file.closed


def test_threads_read_without_mixing(on_disk):
    kept = collected(TEXTS, [str(n) * 50 for n in range(200)], 0)
    wrong = []

    def read(step):
        for row in range(0, 2000, step):
            if kept[row % 200] != str(row % 200) * 50:
                wrong.append(row)

    threads = [threading.Thread(target=read, args=(step,)) for step in (1, 3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


LIMITED = """
import resource, sys
from keras_peft import store
from keras_peft.errors import OptionError
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
collector = store.Collector(store.TEXTS, most_bytes=0)
try:
    for _ in range(int(sys.argv[1])):
        collector.add("x" * 100)
    collector.done()
except OptionError as error:
    sys.exit(str(error))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits of file sizes there")
@pytest.mark.parametrize("rows", [197, 10_000])
def test_a_full_disk_is_reported_in_one_sentence(tmp_path, monkeypatch, rows):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path))
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", LIMITED, str(rows)], capture_output=True, text=True, check=False
    )
    assert ended.stderr.startswith(
        f"{tmp_path} cannot be written to (File too large); keras-peft stores data"
    )
    assert "KERAS_PEFT_CACHE" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_folder_that_cannot_be_created_is_reported(tmp_path, monkeypatch, on_disk):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(store.OptionError, match="cannot be written"):
        collected(TEXTS, ["a"], 0)


@given(st.lists(st.sampled_from(["", "a", "b", ("a",), ("a", "b"), "é", 1.0, 2.5]), max_size=12))
@settings(max_examples=60)
def test_what_repeats_is_found_by_digests(values):
    assert len(set(digests(values).tolist())) == len(set(values))
    expected = [[n for n, one in enumerate(values) if one == value] for value in dict.fromkeys(values)]
    found = [group.tolist() for group in equal_groups(values)]
    assert found == [group for group in expected if len(group) > 1]


def test_contradictions_come_text_by_text():
    texts = ["b", "a", "c", "a", "b", "c", "a"]
    labels = ["x", "x", "x", "y", "z", "x", "x"]
    assert [group.tolist() for group in contradictions(texts, labels)] == [[0, 4], [1, 3, 6]]
