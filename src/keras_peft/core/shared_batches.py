"""Batches that several devices or processes share."""

from __future__ import annotations

from typing import Any

import keras

from keras_peft.errors import AdapterError


def shared_batches(data: Any) -> Any:
    """Returns data whose batches can be divided among the devices of `keras.distribution`.

    Each process takes its part of a batch and waits for the others in every step. If the last
    batch is too small for one part each, one process has a step more than the others and waits
    forever, so an incomplete last batch is dropped.

    Args:
        data: The data passed to `fit`. Keras divides only `tf.data` data sets.

    Returns:
        The data set; unchanged if there is one device or the data is not such a data set.

    Raises:
        AdapterError: If the batches cannot be divided equally.
    """
    distribution = keras.distribution.distribution()
    devices = 1 if distribution is None else int(distribution.device_mesh.devices.size)
    if devices == 1 or not hasattr(data, "rebatch"):
        return data
    first = next(iter(data.take(1)), None)
    if first is None:
        return data
    rows = int(keras.tree.flatten(first)[0].shape[0])
    if rows % devices:
        raise AdapterError(
            f"A batch has {rows} rows, which cannot be split equally across {devices} devices; use a "
            f"batch size that is a multiple of {devices}."
        )
    return data.rebatch(rows, drop_remainder=True)
