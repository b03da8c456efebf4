"""OFT: parameter counts, and that its matrices are rotations."""

from __future__ import annotations

import keras
import numpy as np

import keras_peft
from methods.counting import BLOCKS, DIM, adapted, count


def test_count():
    assert count(keras_peft.methods.OFT(block_size=8)) == 2 * BLOCKS * DIM * (8 - 1) // 2
    assert count(keras_peft.methods.OFT(block_size=7)) == count(keras_peft.methods.OFT(block_size=4))


def test_rotations_keep_lengths_and_the_series_comes_near():
    skew = np.random.default_rng(0).normal(size=(2, 28)).astype("float32") * 0.1
    exact = keras.ops.convert_to_numpy(
        keras_peft.methods.OFT()._rotation(keras.ops.convert_to_tensor(skew), 8)
    )
    np.testing.assert_allclose(exact @ exact.swapaxes(1, 2), np.tile(np.eye(8), (2, 1, 1)), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(exact), 1, atol=1e-4)
    far = [
        np.abs(
            keras.ops.convert_to_numpy(
                keras_peft.methods.OFT(terms=terms)._rotation(keras.ops.convert_to_tensor(skew), 8)
            )
            - exact
        ).max()
        for terms in (2, 5, 12)
    ]
    assert far[0] > far[1] > far[2]
    assert far[2] < 1e-3


def test_it_works_at_every_block_alike():
    model = adapted(keras_peft.methods.OFT(block_size=8))
    assert {value.shape for value in model.adapter_tensors().values()} == {(2, 28)}
