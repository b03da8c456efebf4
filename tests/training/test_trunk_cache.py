"""Features: computed once, cached, found again, and never cached incomplete."""

from __future__ import annotations

import errno
import json
import os

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_peft
from conftest import TINY, make_rows, write_jsonl
from core import models
from core.trying import outputs_of
from keras_peft.core.model_split import split_model
from keras_peft.inputs.tokens import Tokens
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training import cache_folder as cache
from keras_peft.training.trunk_cache import compute_features


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_CACHE", str(tmp_path / "cache"))


class Counting(Progress):
    def __init__(self):
        self.started, self.rows, self.finished = 0, 0, 0

    def trunk_started(self, *, rows):
        self.started += rows

    def trunk_computed(self, *, rows):
        self.rows += rows

    def trunk_finished(self):
        self.finished += 1


def tokens_of(lengths, seed=0):
    generator = np.random.default_rng(seed)
    return Tokens(tuple(generator.integers(1, 50, length, np.int32) for length in lengths), truncated=0)


@pytest.fixture(scope="module")
def base():
    return models.distilbert()


def split_of(base):
    return split_model(base, [base.get_layer("transformer_layer_2")])


def watched(progress=None):
    return {"progress": progress or Progress(), "stopwatch": Stopwatch()}


def compute(base, *sets, name="base", progress=None):
    return compute_features(base, split_of(base), sets, fingerprint=[name], **watched(progress))


@pytest.mark.slow
@given(st.lists(st.integers(1, 20), min_size=1, max_size=40), st.data())
@settings(deadline=None, max_examples=15)
def test_batches_of_features_give_what_the_base_gives(base, lengths, data):
    tokens = tokens_of(lengths)
    (rows,), cached = compute(base, tokens)
    assert len(rows) == len(tokens)
    assert cached.rows == len({ids.tobytes() for ids in tokens.ids})
    chosen = np.array(data.draw(st.lists(st.sampled_from(range(len(lengths))), min_size=1, max_size=8)))
    vectors, mask = rows.batch(chosen)
    assert vectors.dtype == np.float16
    inputs = tokens.batch(chosen)
    np.testing.assert_array_equal(mask, inputs["padding_mask"])
    outputs = keras.ops.convert_to_numpy(split_of(base).top([vectors, mask]))
    there = mask.astype(bool)
    np.testing.assert_allclose(outputs[there], outputs_of(base, inputs)[there], atol=5e-3)


def test_each_text_is_computed_once_and_found_again(base):
    first, second = tokens_of([5, 9, 5]), tokens_of([5, 9, 5])
    progress = Counting()
    (one, two), cached = compute(base, first, second, progress=progress)
    assert (cached.rows, cached.hit) == (3, False)
    assert cached.bytes == 2 * 16 * (5 + 9 + 5)
    assert (progress.started, progress.rows, progress.finished) == (3, 3, 1)
    np.testing.assert_array_equal(one.batch(np.arange(3))[0], two.batch(np.arange(3))[0])
    other = Counting()
    # The same texts in another order and another split.
    (three,), cached = compute(base, Tokens(first.ids[::-1], 0), progress=other)
    assert cached.hit
    assert other.started == other.finished == 0
    np.testing.assert_array_equal(three.batch(np.arange(3))[0], one.batch(np.arange(3)[::-1])[0])


def test_rows_that_are_only_scored_count_as_scoring(base):
    stopwatch = Stopwatch()
    sets = [tokens_of([5, 9]), tokens_of([7, 7], seed=1)]
    with stopwatch.measure("trunk"):
        compute_features(
            base, split_of(base), sets, fingerprint=["x"], progress=Progress(), stopwatch=stopwatch
        )
    seconds = stopwatch.read()
    assert 0 < seconds["evaluate"] < seconds["trunk"]
    again = Stopwatch()
    compute_features(
        base, split_of(base), [sets[0]] * 2, fingerprint=["y"], progress=Progress(), stopwatch=again
    )
    assert again.read()["evaluate"] == 0


def test_what_the_features_depend_on_is_in_their_name(base):
    tokens = tokens_of([5, 9])
    compute(base, tokens)
    assert not compute(base, tokens, name="another base")[1].hit
    assert not compute(base, tokens_of([5, 9], seed=1))[1].hit
    split = split_model(base, [base.get_layer("transformer_layer_1")])
    assert not compute_features(base, split, [tokens], fingerprint=["base"], **watched())[1].hit
    assert compute(base, tokens)[1].hit
    assert len(cache.kept()) == 4


@pytest.mark.parametrize("damage", ["cut", "missing", "index", "shape", "pickle"])
def test_damaged_features_are_computed_again(base, damage):
    tokens = tokens_of([5, 9, 12])
    (before,), _ = compute(base, tokens)
    ((folder, _),) = cache.kept()
    array = folder / "0.npy"
    if damage == "cut":
        array.write_bytes(array.read_bytes()[:-10])
    elif damage == "missing":
        array.unlink()
    elif damage == "index":
        (folder / cache.INDEX).write_text("[")
    elif damage == "shape":
        np.save(array, np.zeros((3, 16), np.float16))
    else:
        np.save(array, np.array([{}]), allow_pickle=True)
    (after,), cached = compute(base, tokens)
    assert not cached.hit
    np.testing.assert_array_equal(after.batch(np.arange(3))[0], before.batch(np.arange(3))[0])


def test_a_run_that_is_stopped_while_writing_leaves_nothing(base):
    class Stopping(Progress):
        def trunk_computed(self, *, rows):
            raise KeyboardInterrupt

    tokens = tokens_of([5, 9, 12])
    with pytest.raises(KeyboardInterrupt):
        compute(base, tokens, progress=Stopping())
    assert cache.kept() == []
    assert list(cache.trunk_folder().iterdir()) == []
    assert not compute(base, tokens)[1].hit


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_without_rights(base, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o500)
    assert not compute(base, tokens_of([5]))[1].hit


def test_without_a_place_to_keep_them_they_are_in_memory(base, tmp_path):
    (tmp_path / "cache").write_text("a file where the folder should be")
    tokens = tokens_of([5, 9])
    (rows,), cached = compute(base, tokens)
    assert (cached.rows, cached.hit) == (2, False)
    assert rows.batch(np.arange(2))[0].shape[::2] == (2, 16)


def test_a_disk_without_room_for_them(base, monkeypatch):
    """Space is reserved before it is written to, since a write to a mapped file would kill the process."""

    def full(descriptor, start, length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    (rows,), cached = compute(base, tokens_of([5, 9]))
    assert (cached.rows, cached.hit) == (2, False)
    assert rows.batch(np.arange(2))[0].shape[::2] == (2, 16)
    assert list(cache.trunk_folder().iterdir()) == []


def test_large_ones_are_read_from_the_disk(base, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_MEMORY", "10")
    tokens = tokens_of([5, 9])
    (rows,), _ = compute(base, tokens)
    (array,) = rows._store.arrays
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable
    monkeypatch.delenv("KERAS_PEFT_MEMORY")
    (same,), _ = compute(base, tokens)
    np.testing.assert_array_equal(rows.batch(np.arange(2))[0], same.batch(np.arange(2))[0])


def test_the_cache_does_not_grow_without_end(base, monkeypatch):
    monkeypatch.setenv("KERAS_PEFT_CACHE_SIZE", "1.2 kB")  # Room for two.
    for seed in range(4):
        compute(base, tokens_of([9], seed))
        for age, (folder, _) in enumerate(cache.kept()):
            os.utime(folder, (1e9 - age, 1e9 - age))
        if seed == 2:
            assert compute(base, tokens_of([9], 1))[1].hit  # Reading it makes it the most recent one.
    assert len(cache.kept()) == 2
    assert compute(base, tokens_of([9], 3))[1].hit
    assert compute(base, tokens_of([9], 1))[1].hit
    assert not compute(base, tokens_of([9], 2))[1].hit


def test_values_that_half_precision_cannot_hold():
    inputs = {"token_ids": keras.Input((None,), dtype="int32", name="token_ids")}
    vectors = keras.layers.Embedding(50, 4, embeddings_initializer=keras.initializers.Constant(1e5))(
        inputs["token_ids"]
    )
    inputs["padding_mask"] = keras.Input((None,), dtype="int32", name="padding_mask")
    mask = keras.ops.expand_dims(keras.ops.cast(inputs["padding_mask"], "float32"), -1)
    large = keras.Model(inputs, keras.layers.Dense(2, name="last")(vectors) * mask)
    split = split_model(large, [large.get_layer("last")])
    (rows,), _ = compute_features(large, split, [tokens_of([3])], fingerprint=["x"], **watched())
    values = next(value for value in rows.batch(np.arange(1)) if value.ndim == 3 and value.shape[-1] == 4)
    assert values.dtype == np.float32
    assert values[0, 0, 0] == 1e5


def test_what_is_the_same_for_all_rows_is_kept_once():
    base = models.deberta_v3()
    model = keras_peft.adapt(base, keras_peft.LoRA(rank=2), layers="last:1")
    split = model.split()
    tokens = tokens_of([5, 9, 12])
    (rows,), _ = compute_features(base, split, [tokens], fingerprint=["x"], **watched())
    assert sorted(len(array) for array in rows._store.arrays) == [1, 5 + 9 + 12]
    batch = rows.batch(np.arange(3))
    with model.above(split):
        above = outputs_of(model, batch)
    mask = tokens.batch(np.arange(3))["padding_mask"].astype(bool)
    np.testing.assert_allclose(above[mask], outputs_of(model, tokens.batch(np.arange(3)))[mask], atol=1e-2)


@pytest.mark.slow
@pytest.mark.eager
def test_the_job_uses_it_and_says_so(tmp_path):
    data = write_jsonl(tmp_path / "data.jsonl", make_rows(40))
    reports = {}
    for name, options in {
        "first": {},
        "again": {"seed": 1},
        "without": {"trunk_cache": False},
        "all": {"layers": "all", "method": keras_peft.BitFit()},
    }.items():
        result = keras_peft.fine_tune(
            data,
            out=tmp_path / name,
            base=str(TINY),
            epochs=2,
            layers=options.pop("layers", "last:1"),
            validation=0.2,
            **options,
        )
        reports[name] = result.to_json()
    json.dumps(reports)
    assert [reports[name]["cache"] and reports[name]["cache"]["hit"] for name in reports] == [
        False,
        True,
        None,
        None,
    ]
    assert reports["first"]["trunk_blocks"] == 2
    assert reports["first"]["cache"]["rows"] == 40
    assert "trunk" not in reports["without"]["seconds"]
    losses = [[epoch["loss"] for epoch in reports[name]["history"]] for name in ("first", "without")]
    np.testing.assert_allclose(*losses, rtol=2e-3)
