"""Rows of features in place of rows of tokens: what the top reads, as it was kept."""

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
    """The features of some rows, cut into batches as `Tokens` are.

    Args:
        tokens: The rows.
        split: The two parts of the base.
        store: The features of the different texts.
        places: The text of each row, by its place in the store, (rows,).

    Attributes:
        lengths: Number of tokens of each row.
        words: Positions of the words' first tokens, where the rows came in words.
        owners: Which text each row is of, where texts have several.
    """

    def __init__(self, tokens: Tokens, split: ModelSplit, store: FeatureStore, places: np.ndarray) -> None:
        self._tokens, self._split, self._store, self._places = tokens, split, store, places
        self.lengths, self.words, self.owners = tokens.lengths, tokens.words, tokens.owners

    def __len__(self) -> int:
        return len(self._tokens)

    @property
    def signature(self) -> tuple[keras.KerasTensor, ...]:
        """What a batch is, with None for the axes that vary."""
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
        """Returns what the top reads, padded to a common length."""
        length = padded_length(int(self.lengths[rows].max()))
        computed = self._store.read(self._places[rows], length)
        return tuple(top_inputs(self._split, computed, self._tokens.batch(rows)))
