"""Batches that are split equally across devices.

Tests with several processes are in tests/serve/http/acceptance.
"""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_peft.core.shared_batches import (
    parts_of_batch,
    predict_evenly,
    refuse_uneven,
    shared_batches,
)
from keras_peft.errors import AdapterError


def share(monkeypatch, **attributes):
    found = SimpleNamespace(**{"auto_shard_dataset": True, "num_processes": 1, **attributes})
    monkeypatch.setattr(keras.distribution, "distribution", lambda: found)


@pytest.fixture
def two_devices(monkeypatch):
    share(monkeypatch, num_model_replicas=2)


def batches(rows, size):
    return tf.data.Dataset.from_tensor_slices(({"x": np.zeros((rows, 3))}, np.arange(rows))).batch(size)


@pytest.mark.usefixtures("two_devices")
def test_an_incomplete_last_batch_is_left_out_and_no_other():
    assert [len(labels) for _, labels in shared_batches(batches(9, 4))] == [4, 4]
    assert [len(labels) for _, labels in shared_batches(batches(8, 4))] == [4, 4]


@pytest.mark.usefixtures("two_devices")
def test_batches_that_do_not_divide_are_refused():
    with pytest.raises(AdapterError, match="3 rows, which cannot be split equally across 2 devices"):
        shared_batches(batches(9, 3))


@pytest.mark.usefixtures("two_devices")
def test_other_data_is_as_it_was():
    array = np.zeros((3, 3))
    assert shared_batches(array) is array


def test_a_process_that_reads_its_own_part_divides_it_among_its_own_devices(monkeypatch):
    share(monkeypatch, num_model_replicas=8, num_processes=4, auto_shard_dataset=False)
    assert parts_of_batch() == 2
    share(monkeypatch, num_model_replicas=2, num_processes=4, auto_shard_dataset=False)
    assert parts_of_batch() == 1


def fit(x, y=None, batch_size=None, validation_split=0.0, validation_data=None, validation_batch_size=None):
    """The arguments of Keras's `fit`."""


@pytest.mark.parametrize(
    ("uneven", "arguments"),
    [
        ("7 rows in batches of 4 give a batch of 3 rows", {"batch_size": 4}),
        ("7 rows in batches of 32 give a batch of 7 rows", {}),
        ("7 rows in batches of 3 give a batch of 3 rows", {"batch_size": 3}),
        ("5 rows in batches of 4 give a batch of 1 rows", {"batch_size": 4, "validation_split": 0.25}),
    ],
)
@pytest.mark.usefixtures("two_devices")
def test_arrays_whose_batches_do_not_divide_are_refused(uneven, arguments):
    with pytest.raises(AdapterError, match=f"{uneven}, which cannot be split equally across 2 devices"):
        refuse_uneven(fit, {"x": np.zeros((7, 3))}, np.zeros(7), **arguments)


@pytest.mark.usefixtures("two_devices")
def test_arrays_for_validation_are_checked_before_training():
    rows, validation = np.zeros((8, 3)), (np.zeros((5, 3)), np.zeros(5))
    refuse_uneven(fit, rows, rows, 4)
    with pytest.raises(AdapterError, match="5 rows in batches of 4"):
        refuse_uneven(fit, rows, rows, 4, validation_data=validation)
    with pytest.raises(AdapterError, match="5 rows in batches of 2"):
        refuse_uneven(fit, rows, rows, 4, validation_data=validation, validation_batch_size=2)


@pytest.mark.usefixtures("two_devices")
def test_predictions_of_any_number_of_rows_are_those_of_the_rows():
    seen = []

    def predict(x, batch_size=None):
        seen.append(len(x["x"]))
        return {"outputs": x["x"] * 2}

    rows = np.arange(7)
    np.testing.assert_array_equal(predict_evenly(predict, {"x": rows}, 4)["outputs"], rows * 2)
    np.testing.assert_array_equal(predict_evenly(predict, {"x": rows[:6]}, 4)["outputs"], rows[:6] * 2)
    assert seen == [8, 6]
    with pytest.raises(AdapterError, match="8 rows in batches of 3"):
        predict_evenly(predict, {"x": rows}, batch_size=3)


@pytest.mark.parametrize(
    ("rows", "filled"),
    [
        (["a", "b", "c"], ["a", "b", "c", "c"]),
        ({"texts": ["a"], "numbers": np.ones(1)}, {"texts": ["a", "a"], "numbers": [1, 1]}),
        ([np.zeros((1, 2)), np.ones(1)], [[[0, 0], [0, 0]], [1, 1]]),
    ],
)
@pytest.mark.usefixtures("two_devices")
def test_rows_are_filled_up_whatever_holds_them(rows, filled):
    seen = []
    predict_evenly(lambda x: seen.append(x) or np.zeros(4), rows)
    (given,) = seen
    assert keras.tree.map_structure(lambda one: one.tolist(), given) == filled


@pytest.mark.usefixtures("two_devices")
def test_rows_of_unknown_number_are_left_to_keras():
    data = batches(9, 3)
    refuse_uneven(fit, data)
    assert predict_evenly(lambda x: x, data) is data


def test_one_device_gets_all():
    data = batches(9, 4)
    assert shared_batches(data) is data
