"""A model and tokens to its outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from keras_peft.runtime.inference import Inference
    from keras_peft.training.batches import Rows

# Rows for which tracing a model does not pay.
_FEW_ROWS = 64


def compute_outputs(run: Inference, rows: Rows, *, advance: Callable[[int], None] | None = None) -> Any:
    """Runs a model over rows in inference mode, batched by length.

    Args:
        run: The model, from a batch of the rows to (batch, outputs) or, for words, to
            (batch, length, outputs).
        rows: At least one row.
        advance: Called with the number of rows after each batch.

    Returns:
        Float32 outputs in the order of the texts: (texts, outputs), the mean over the windows
        of a text that has several; or a list of an array (words, outputs) for each text,
        with zeros for words that were cut off.
    """
    from keras_peft.training.batches import inference_batches

    count = len(rows.lengths)
    found: Any = None if rows.words is None else [np.empty(0)] * count
    for batch, inputs in inference_batches(rows):
        outputs = np.asarray(run(inputs, once=count <= _FEW_ROWS), np.float32)
        if rows.words is None:
            found = np.empty((count, *outputs.shape[1:]), np.float32) if found is None else found
            found[batch] = outputs
        else:
            for row, own in zip(batch, outputs, strict=True):
                found[row] = at_words(own, rows.words[row])
        if advance is not None:
            advance(len(batch))
    return found if rows.owners is None else over_windows(found, rows.owners)


def difference(one: Any, other: Any) -> float:
    """Returns the largest difference between two outputs of `compute_outputs`."""
    return max(float(np.abs(own - others).max()) for own, others in zip(one, other, strict=True))


def at_words(outputs: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns the outputs of a text's words (words, outputs), with zeros for words that were cut off.

    Args:
        outputs: Those of its tokens (tokens, outputs).
        places: The position of each word's first token (words,), -1 for words that were cut off.
    """
    return np.where(places[:, None] >= 0, outputs[places], np.float32(0))


def over_windows(outputs: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Returns for each text the mean of its windows' outputs (texts, outputs).

    Args:
        outputs: Those of the windows (windows, outputs).
        owners: Which text each window is of (windows,), in the order of the texts.
    """
    sums = np.zeros((owners[-1] + 1, outputs.shape[1]), np.float32)
    np.add.at(sums, owners, outputs)
    return sums / np.bincount(owners)[:, None].astype(np.float32)
