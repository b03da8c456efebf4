"""LoReFT: an edit in a subspace at the first and last tokens, computed by hand."""

from __future__ import annotations

import numpy as np

import keras_peft
from core import models
from methods.counting import BLOCKS, DIM, adapted, count, fill, outputs_of


def test_count():
    assert count(keras_peft.methods.LoReFT(rank=3)) == BLOCKS * (2 * DIM * 3 + 3)


def test_edit_written_out():
    model = adapted(keras_peft.methods.LoReFT(rank=3, first=2, last=1), layers="last:1")
    tensors = {key.rsplit("/", 1)[1]: value for key, value in fill(model).items()}
    inputs = models.inputs_of(model.base)  # The second row has six tokens, the others ten.
    after = outputs_of(model, inputs)
    with model.disabled():
        h = outputs_of(model, inputs)
    basis, _ = np.linalg.qr(tensors["basis"])
    edited = h + (h @ tensors["source"] + tensors["bias"] - h @ basis) @ basis.T
    expected = h.copy()
    for row, length in enumerate(inputs["padding_mask"].sum(axis=1)):
        places = [0, 1, length - 1]
        expected[row, places] = edited[row, places]
    np.testing.assert_allclose(after, expected, atol=1e-5)
