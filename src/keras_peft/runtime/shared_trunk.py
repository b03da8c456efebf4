"""The part of a base below the adapters, shared by rows of any of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import keras
import numpy as np

from keras_peft.runtime.padding import padded_rows, token_inputs
from keras_peft.runtime.trunk_runner import computed_features, top_inputs

if TYPE_CHECKING:
    from keras_peft.core.model_split import ModelSplit
    from keras_peft.runtime.recent import RecentFeatures
    from keras_peft.runtime.trunk_runner import TrunkRunner

_NO_TOKENS = np.zeros(0, np.int32)


class SharedTrunk:
    """Computes the features that the tops read; without a trunk, these are the padded token ids.

    Args:
        split: The two parts of the base, or None if there is no trunk.
        trunk: Runs the lower part.
        recent: Cache of the features of recent texts.
    """

    def __init__(self, split: ModelSplit | None, trunk: TrunkRunner | None, recent: RecentFeatures) -> None:
        self._split, self._run, self._recent = split, trunk, recent
        computed = [] if split is None else [feature.shape for feature in computed_features(split)]
        # Features with one vector per token do not depend on the padding.
        self._keeps = all(shape[:2] == (None, None) and None not in shape[2:] for shape in computed)

    def run(self, texts: Sequence[np.ndarray], keys: Sequence[bytes]) -> list[np.ndarray]:
        """Computes the features of some texts.

        Args:
            texts: Token ids of each text, (tokens,) int32.
            keys: The same as bytes.

        Returns:
            An array (texts, length, …) for each feature that the top reads.
        """
        inputs = _inputs(texts)
        if self._split is None or self._run is None:
            return list(keras.tree.flatten(inputs))
        return top_inputs(self._split, self._computed(self._run, texts, keys, inputs), inputs)

    def _computed(
        self,
        run: TrunkRunner,
        texts: Sequence[np.ndarray],
        keys: Sequence[bytes],
        inputs: dict[str, np.ndarray],
    ) -> list[np.ndarray]:
        kept = self._recent.get([(self, key) for key in keys]) if self._keeps else [None] * len(keys)
        missing = [place for place, features in enumerate(kept) if features is None]
        if len(missing) == len(texts):
            found = run(inputs)
        else:
            own = run(_inputs([texts[place] for place in missing])) if missing else []
            found = _composed(next(one for one in kept if one is not None), inputs["token_ids"].shape)
            for place, features in enumerate(kept):
                for whole, part in zip(found, features or (), strict=False):
                    whole[place, : len(part)] = part
            for whole, computed in zip(found, own, strict=False):
                for place, part in zip(missing, computed, strict=False):
                    length = len(texts[place])
                    whole[place, :length] = part[:length]
        if self._keeps and self._recent.capacity:
            for place in missing:
                length = len(texts[place])
                self._recent.put((self, keys[place]), tuple(one[place, :length] for one in found))
        return found


def _inputs(texts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Pads token ids to a common length, and adds empty texts up to a number that is compiled for."""
    more = padded_rows(len(texts)) - len(texts)
    return token_inputs([*texts, *[_NO_TOKENS] * more])


def _composed(example: Sequence[np.ndarray], shape: tuple[int, ...]) -> list[np.ndarray]:
    return [np.zeros((*shape, *one.shape[1:]), one.dtype) for one in example]
