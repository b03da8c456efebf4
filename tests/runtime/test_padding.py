"""Padding rows of different lengths to one array."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_peft.inputs.tokens import Tokens
from keras_peft.runtime.padding import padded, padded_length, padded_rows


@pytest.fixture
def backend(monkeypatch):
    return lambda name: monkeypatch.setattr(keras.config, "backend", lambda: name)


def test_rows_are_padded_to_the_longest_of_them(backend):
    backend("tensorflow")
    batch = Tokens((np.array([5, 6, 7], np.int32), np.array([9], np.int32)), 0).batch(np.arange(2))
    np.testing.assert_array_equal(batch["token_ids"], [[5, 6, 7], [9, 0, 0]])
    np.testing.assert_array_equal(batch["padding_mask"], [[1, 1, 1], [1, 0, 0]])


def test_a_backend_that_compiles_for_each_shape_gets_few_lengths(backend):
    backend("jax")
    batch = Tokens((np.array([5, 6, 7], np.int32), np.array([9], np.int32)), 0).batch(np.arange(2))
    np.testing.assert_array_equal(batch["token_ids"], [[5, 6, 7, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(batch["padding_mask"], [[1, 1, 1, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0, 0, 0]])
    assert batch["token_ids"].dtype == batch["padding_mask"].dtype == np.int32
    assert [padded_length(n) for n in (1, 8, 9, 128, 129, 512, 600)] == [8, 8, 16, 128, 192, 512, 600]


def test_rows_of_any_type_are_padded_with_anything():
    rows = [np.ones((2, 3), np.float16), np.ones((1, 3), np.float16)]
    whole = padded(rows, 4, fill=-1)
    assert whole.dtype == np.float16
    np.testing.assert_array_equal(whole[..., 0], [[1, 1, -1, -1], [1, -1, -1, -1]])


@pytest.mark.parametrize(
    ("name", "expected"), [("tensorflow", [1, 2, 3, 5, 64, 65]), ("jax", [1, 2, 4, 8, 64, 128])]
)
def test_numbers_of_rows_that_are_compiled_for(backend, name, expected):
    backend(name)
    assert [padded_rows(count) for count in (1, 2, 3, 5, 64, 65)] == expected
