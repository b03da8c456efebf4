"""The part of a base above the trunk, for adapters of one shape with different weights per row."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_peft.runtime.inference import Inference
from keras_peft.runtime.padding import padded_rows

if TYPE_CHECKING:
    from keras_peft.core.adapter_shape import AdapterShape
    from keras_peft.core.mixed_batch import PackedModel
    from keras_peft.core.model_split import ModelSplit
    from keras_peft.runtime.shared_trunk import SharedTrunk


class MixedBatchTop:
    """Runs rows of adapters of one shape, from features to the base's vectors.

    Args:
        shape: The shape that the adapters share.
        trunk: The trunk below the adapters.
        model: The model above the trunk.
        split: The two parts of the base, or None if there is no trunk.

    Attributes:
        shape: The shape that the adapters share.
        trunk: The trunk below the adapters.
    """

    def __init__(
        self, shape: AdapterShape, trunk: SharedTrunk, model: PackedModel, split: ModelSplit | None
    ) -> None:
        self.shape, self.trunk = shape, trunk
        self._warming, self._is_warm = threading.Lock(), False
        features = (
            [keras.KerasTensor(one.shape, one.dtype) for one in split.features]
            if split is not None
            else [keras.KerasTensor((None, None), "int32") for _ in keras.tree.flatten(model.base.input)]
        )
        signature = {"features": features, "places": keras.KerasTensor((None,), "int32")}
        # Weights without a row axis are faster if all rows have the same adapter.
        self._alone = Inference(model, {**signature, "packed": keras.KerasTensor((shape.size,), "float32")})
        self._mixed = Inference(
            model, {**signature, "packed": keras.KerasTensor((None, shape.size), "float32")}
        )

    def run(
        self, features: Sequence[np.ndarray], places: Sequence[int], packed: Sequence[np.ndarray]
    ) -> np.ndarray:
        """Runs rows.

        Args:
            features: From the trunk.
            places: Index of each row's text in the features.
            packed: Packed weights of each row's adapter, (size,) float32; all have this shape.

        Returns:
            The base's vectors, (rows, length, dim) float32; only those of the first position if
            no others are read.
        """
        rows = len(places)
        at = np.array([*places, *[places[-1]] * (padded_rows(rows) - rows)], np.int32)
        inputs = {"features": list(features), "places": at}
        if all(one is packed[0] for one in packed):
            vectors = self._alone({**inputs, "packed": packed[0]})
        else:
            each = np.stack([*packed, *[packed[-1]] * (len(at) - rows)])
            vectors = self._mixed({**inputs, "packed": each})
        return np.asarray(vectors[:rows], np.float32)

    def warm_up(self) -> None:
        """Traces the model for one adapter and for several; has no effect when repeated. Thread-safe."""
        with self._warming:
            if not self._is_warm:
                self._trace()
                self._is_warm = True

    def _trace(self) -> None:
        texts = [np.array([1, 2, 3], np.int32), np.array([1, 2], np.int32)]
        features = self.trunk.run(texts, [b"", b""])
        packed = [np.zeros(self.shape.size, np.float32) for _ in texts]
        for each in (packed, packed[:1] * 2):
            self.run(features, [0, 1], each)
