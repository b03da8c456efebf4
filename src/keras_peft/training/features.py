"""Rows of cached features, in place of rows of tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from keras_peft.runtime.padding import padded_length
from keras_peft.runtime.trunk_runner import top_inputs

if TYPE_CHECKING:
    import keras

    from keras_peft.core.model_split import ModelSplit
    from keras_peft.inputs.tokens import Tokens
    from keras_peft.training.feature_store import FeatureStore


class Features:
    """The features of some rows, with the same batch interface as `Tokens`.

    Args:
        tokens: The rows.
        split: The base, split into trunk and top.
        store: The features of the distinct texts.
        places: Index in the store of each row's text, (rows,).

    Attributes:
        lengths: Number of tokens of each row.
        words: Positions of the first tokens of words, if the rows are split into words.
        owners: Index of the text that each row belongs to, if texts have several rows.
    """

    def __init__(self, tokens: Tokens, split: ModelSplit, store: FeatureStore, places: np.ndarray) -> None:
        self._tokens, self._split, self._store, self._places = tokens, split, store, places
        self.lengths, self.words, self.owners = tokens.lengths, tokens.words, tokens.owners

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def signature(self) -> tuple[keras.KerasTensor, ...]:
        """The shapes and dtypes of a batch, with None for axes of variable size."""
        import keras

        computed = iter(self._store.arrays)
        return tuple(
            keras.KerasTensor(
                (None, *feature.shape[1:]),
                str(next(computed).dtype) if feature.raw is None else feature.dtype,
            )
            for feature in self._split.features
        )

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, ...]:
        """Returns the inputs of the top for some rows, padded to a common length."""
        length = padded_length(int(self.lengths[rows].max()))
        computed = self._store.read(self._places[rows], length)
        return tuple(top_inputs(self._split, computed, self._tokens.batch(rows)))
