"""Combining the outputs of rows into the outputs of texts."""

from __future__ import annotations

import numpy as np

from keras_peft.inputs.tokens import Tokens
from keras_peft.runtime.outputs import compute_outputs, difference, of_texts


def tokens_of(lengths, **others):
    return Tokens(tuple(np.full(length, n + 1, np.int32) for n, length in enumerate(lengths)), 0, **others)


def run(inputs, once):
    return inputs["token_ids"][:, :2].astype("float32")


def test_outputs_are_in_the_order_of_the_texts_whatever_batch_they_were_in():
    told = []
    outputs = compute_outputs(run, tokens_of([9, 3, 300, 2] * 10), advance=told.append)
    assert outputs.dtype == np.float32
    np.testing.assert_array_equal(outputs, [[n, n] for n in range(1, 41)])
    assert sum(told) == 40 and len(told) > 1


def test_a_text_of_several_windows_has_their_mean():
    rows = tokens_of([4, 4, 4, 2], owners=np.array([0, 0, 0, 1]))
    np.testing.assert_array_equal(compute_outputs(run, rows), [[2, 2], [4, 4]])


def test_words_have_the_outputs_of_their_first_tokens_and_zeros_where_they_were_cut_off():
    rows = tokens_of([3, 4], words=(np.array([2, -1]), np.array([1, 3, 0])))
    outputs = [np.arange(6, dtype=np.float32).reshape(3, 2), np.arange(8, dtype=np.float32).reshape(4, 2)]
    first, second = of_texts(reversed(list(enumerate(outputs))), rows)
    np.testing.assert_array_equal(first, [[4, 5], [0, 0]])
    np.testing.assert_array_equal(second, [[2, 3], [6, 7], [0, 1]])


def test_the_difference_is_the_largest_of_any_text():
    one = [np.zeros((2, 1), np.float32), np.ones((1, 1), np.float32)]
    other = [np.zeros((2, 1), np.float32), np.full((1, 1), 0.5, np.float32)]
    assert difference(one, other) == 0.5
