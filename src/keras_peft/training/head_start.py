"""A head that starts as the solution of a logistic or ridge regression on the frozen vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.runtime.rows import EncodedRows


def pooled_vectors(model: AdaptedModel, rows: EncodedRows) -> np.ndarray:
    """Computes the vectors that the head reads.

    Args:
        model: An adapted model whose adapter is the identity.
        rows: The rows; the vectors of a text's windows are averaged.

    Returns:
        One vector per text, (texts, dim) float32.
    """
    from keras_peft.runtime.rows import inference_batches

    found = None
    headless = _Headless(model)
    from keras_peft.runtime.inference import Inference

    run = Inference(headless, rows.signature)
    for places, inputs in inference_batches(rows):
        vectors = np.asarray(run(inputs))[:, 0]
        if found is None:
            found = np.zeros((len(rows), vectors.shape[-1]), np.float32)
        found[places] = vectors
    assert found is not None
    if rows.owners is not None:
        counts = np.bincount(rows.owners)
        sums = np.zeros((len(counts), found.shape[1]), np.float32)
        np.add.at(sums, rows.owners, found)
        found = sums / counts[:, None]
    return found


import keras  # noqa: E402


class _Headless(keras.Model):
    def __init__(self, model: AdaptedModel) -> None:
        super().__init__(name="headless")
        self.model = model
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return self.model.vectors(inputs, training=training)
