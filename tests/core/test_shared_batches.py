"""Batches that are split equally across devices.

Tests with several processes are in tests/serve/http/acceptance.
"""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_peft.core.shared_batches import shared_batches
from keras_peft.errors import AdapterError


@pytest.fixture
def two_devices(monkeypatch):
    mesh = SimpleNamespace(devices=np.arange(2))
    monkeypatch.setattr(keras.distribution, "distribution", lambda: SimpleNamespace(device_mesh=mesh))


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


def test_one_device_gets_all():
    data = batches(9, 4)
    assert shared_batches(data) is data
