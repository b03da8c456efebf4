"""Compute a model's outputs for rows, and combine them into outputs of texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from keras_peft.runtime.rows import EncodedRows, inference_batches

# Maximum number of rows for which tracing a model takes longer than it saves.
_FEW_ROWS = 64


class Run(Protocol):
    """Computes the outputs of a batch; see `Inference`."""

    def __call__(self, inputs: Any, *, once: bool) -> Any:
        """Computes the outputs; see `Inference.__call__`."""


def compute_outputs(
    run: Run,
    rows: EncodedRows,
    *,
    advance: Callable[[int], None] | None = None,
    repeatedly: bool = False,
) -> Any:
    """Runs a model over rows in inference mode, batched by length.

    Args:
        run: The model; maps a batch of rows to (batch, outputs) or, for words, to (batch,
            length, outputs).
        rows: At least one row.
        advance: Called with the number of rows after each batch.
        repeatedly: Whether the model will run again, so that tracing pays off even for few rows.

    Returns:
        The outputs of the texts, as returned by `of_texts`.
    """

    once = not repeatedly and len(rows.lengths) <= _FEW_ROWS

    def computed() -> Iterator[tuple[int, np.ndarray]]:
        for batch, inputs in inference_batches(rows):
            outputs = np.asarray(run(inputs, once=once), np.float32)
            yield from zip(batch, outputs, strict=True)
            if advance is not None:
                advance(len(batch))

    return of_texts(computed(), rows)


def of_texts(outputs: Iterable[tuple[int, np.ndarray]], rows: EncodedRows) -> Any:
    """Combines the outputs of rows into outputs of texts.

    Args:
        outputs: Pairs of row index and float32 outputs, in any order. The shape is (outputs,)
            or, for words, (tokens, outputs).
        rows: The rows; at least one.

    Returns:
        Float32 outputs in the order of the texts: an array (texts, outputs), where a text with
        several windows gets their mean; for words, a list with one array (words, outputs) per
        text, where truncated words are zero.
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
    """Returns the largest absolute difference between two outputs of `compute_outputs`."""
    return max(float(np.abs(own - others).max()) for own, others in zip(one, other, strict=True))


def _at_words(outputs: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Returns the outputs of a text's words (words, outputs), with zeros for truncated words.

    Args:
        outputs: Outputs of the tokens (tokens, outputs).
        places: Position of each word's first token (words,), -1 for truncated words.
    """
    return np.where(places[:, None] >= 0, outputs[places], np.float32(0))


def _over_windows(outputs: np.ndarray, owners: np.ndarray) -> np.ndarray:
    """Returns the mean of the windows' outputs for each text (texts, …).

    Args:
        outputs: Outputs of the windows (windows, …).
        owners: Index of each window's text (windows,), in the order of the texts.
    """
    sums = np.zeros((owners[-1] + 1, *outputs.shape[1:]), np.float32)
    np.add.at(sums, owners, outputs)
    counts = np.bincount(owners).astype(np.float32)
    return sums / counts.reshape(-1, *[1] * (outputs.ndim - 1))
