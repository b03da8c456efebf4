"""What a model gives for rows, and what that is for texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_peft.runtime.rows import EncodedRows, inference_batches

if TYPE_CHECKING:
    from keras_peft.runtime.inference import Inference

# Rows for which tracing a model does not pay.
_FEW_ROWS = 64


def compute_outputs(
    run: Inference, rows: EncodedRows, *, advance: Callable[[int], None] | None = None
) -> Any:
    """Runs a model over rows in inference mode, batched by length.

    Args:
        run: The model, from a batch of the rows to (batch, outputs) or, for words, to
            (batch, length, outputs).
        rows: At least one row.
        advance: Called with the number of rows after each batch.

    Returns:
        The outputs of the texts, as `of_texts` returns them.
    """

    def computed() -> Iterator[tuple[int, np.ndarray]]:
        for batch, inputs in inference_batches(rows):
            outputs = np.asarray(run(inputs, once=len(rows.lengths) <= _FEW_ROWS), np.float32)
            yield from zip(batch, outputs, strict=True)
            if advance is not None:
                advance(len(batch))

    return of_texts(computed(), rows)


def of_texts(outputs: Iterable[tuple[int, np.ndarray]], rows: EncodedRows) -> Any:
    """Puts the outputs of rows together into those of texts.

    Args:
        outputs: The number of each row and its outputs, in any order: (outputs,) or, for
            words, (tokens, outputs), float32.
        rows: The rows; at least one.

    Returns:
        Float32 outputs in the order of the texts: (texts, outputs), the mean over the windows
        of a text that has several; or a list of an array (words, outputs) for each text,
        with zeros for words that were cut off.
    """
    count = len(rows.lengths)
    if rows.words is not None:
        of_words = [np.empty(0)] * count
        for row, own in outputs:
            of_words[row] = _at_words(own, rows.words[row])
        return of_words
    found: np.ndarray | None = None
    for row, own in outputs:
        found = np.empty((count, *own.shape), np.float32) if found is None else found
        found[row] = own
    return found if rows.owners is None or found is None else _over_windows(found, rows.owners)


def difference(one: Any, other: Any) -> float:
    """Returns the largest difference between two outputs of `compute_outputs`."""
    return max(float(np.abs(own - others).max()) for own, others in zip(one, other, strict=True))


def _at_words(outputs: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns the outputs of a text's words (words, outputs), with zeros for words that were cut off.

    Args:
        outputs: Those of its tokens (tokens, outputs).
        places: The position of each word's first token (words,), -1 for words that were cut off.
    """
    return np.where(places[:, None] >= 0, outputs[places], np.float32(0))


def _over_windows(outputs: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Returns for each text the mean of its windows' outputs (texts, outputs).

    Args:
        outputs: Those of the windows (windows, outputs).
        owners: Which text each window is of (windows,), in the order of the texts.
    """
    sums = np.zeros((owners[-1] + 1, outputs.shape[1]), np.float32)
    np.add.at(sums, owners, outputs)
    return sums / np.bincount(owners)[:, None].astype(np.float32)
