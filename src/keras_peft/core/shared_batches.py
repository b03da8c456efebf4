"""Batches that several devices or processes share.

Keras divides each batch into equal parts, one for each data-parallel group of devices. It fails in the middle of the
work on a batch that cannot be divided. So such batches are left out, filled up or refused before.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np

from keras_peft.errors import AdapterError

# Rows in a batch of arrays, where the caller does not say.
_KERAS_BATCH_SIZE = 32


def shared_batches(data: Any) -> Any:
    """Returns data whose batches can be divided among the devices of `keras.distribution`.

    Each process takes its part of a batch and waits for the others in every step. If the last
    batch is too small for one part each, one process has a step more than the others and waits
    forever, so an incomplete last batch is dropped.

    Args:
        data: The data passed to `fit`. Only `tf.data` data sets are changed.

    Returns:
        The data set; unchanged if batches are not divided or the data is not such a data set.

    Raises:
        AdapterError: If the batches cannot be divided equally.
    """
    parts = parts_of_batch()
    if parts == 1 or not hasattr(data, "rebatch"):
        return data
    first = next(iter(data.take(1)), None)
    if first is None:
        return data
    rows = int(keras.tree.flatten(first)[0].shape[0])
    if rows % parts:
        raise AdapterError(
            f"A batch has {rows} rows, which cannot be split equally across {parts} devices or groups of devices; use "
            f"a batch size that is a multiple of {parts}."
        )
    return data.rebatch(rows, drop_remainder=True)


def parts_of_batch() -> int:
    """Returns the number of parts into which the batches that this process reads are divided."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return 1
    parts = int(distribution.num_model_replicas)
    if distribution.auto_shard_dataset:
        return parts
    # Each process reads a part of the batch already.
    return max(1, parts // int(distribution.num_processes))


def refuse_uneven(method: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
    """Checks that devices can share the batches of arrays.

    Nothing is known about the batches of other data, such as generators.

    Args:
        method: The `fit`, `evaluate` or `predict` of a Keras model.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Raises:
        AdapterError: If a batch cannot be divided equally.
    """
    parts = parts_of_batch()
    if parts == 1:
        return
    for rows, batch in _rows_and_batches(inspect.signature(method).bind(*args, **kwargs).arguments):
        if uneven := next((part for part in (min(rows, batch), rows % batch) if part % parts), 0):
            raise AdapterError(
                f"{rows} rows in batches of {batch} give a batch of {uneven} rows, which cannot be split equally "
                f"across {parts} devices or groups of devices; use a batch size and a number of rows that are "
                f"multiples of {parts}."
            )


def predict_evenly(predict: Callable[..., Any], x: Any, *args: Any, **kwargs: Any) -> Any:
    """Predicts arrays of any number of rows on devices that share batches.

    The rows are filled up with copies of the last one, whose outputs are left out.

    Args:
        predict: The `predict` of a Keras model.
        x: The rows.
        args: Passed to `predict`.
        kwargs: Passed to `predict`.

    Raises:
        AdapterError: If a batch cannot be divided equally.
    """
    parts = parts_of_batch()
    rows = _rows_of(x) if parts > 1 else None
    if rows is None:
        return predict(x, *args, **kwargs)
    filled = math.ceil(rows / parts) * parts
    if filled > rows:
        x = _filled(x, filled - rows)
    refuse_uneven(predict, x, *args, **kwargs)
    return keras.tree.map_structure(lambda one: one[:rows], predict(x, *args, **kwargs))


def _rows_and_batches(arguments: Mapping[str, Any]) -> Iterator[tuple[int, int]]:
    """Yields the number of training rows and of validation rows, where they are known, with the batch sizes."""
    rows, size = _rows_of(arguments.get("x")), arguments.get("batch_size") or _KERAS_BATCH_SIZE
    validation_size = arguments.get("validation_batch_size") or size
    if rows is not None:
        share = 0.0 if arguments.get("validation_data") is not None else arguments.get("validation_split")
        trained = math.floor(rows * (1 - (share or 0.0)))
        yield trained, size
        yield rows - trained, validation_size
    validation = arguments.get("validation_data")
    if isinstance(validation, tuple | list) and (rows := _rows_of(validation[0])) is not None:
        yield rows, validation_size


def _rows_of(x: Any) -> int | None:
    """Returns the number of rows of arrays or of texts, or None for other data."""
    if isinstance(x, Mapping):
        return next((_rows_of(one) for one in x.values()), None)
    if _are_texts(x):
        return len(x)
    parts = keras.tree.flatten(x)
    if not parts or not all(len(getattr(part, "shape", ())) for part in parts):
        return None
    return int(parts[0].shape[0])


def _are_texts(x: Any) -> bool:
    return isinstance(x, list | tuple) and all(isinstance(one, str) for one in x)


def _filled(x: Any, missing: int) -> Any:
    """Returns rows with copies of the last one after them."""
    if isinstance(x, Mapping):
        return {key: _filled(one, missing) for key, one in x.items()}
    if isinstance(x, list | tuple) and not _are_texts(x):
        return [_filled(one, missing) for one in x]
    rows = np.asarray(x)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)])
