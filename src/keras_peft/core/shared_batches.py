"""Batches that several devices or processes share."""

from __future__ import annotations

from typing import Any

import keras

from keras_peft.errors import AdapterError


def shared_batches(data: Any) -> Any:
    """Returns data whose batches can be shared by the devices that `keras.distribution` has.

    Each process takes its part of a batch and waits for the others in every step. Where the
    last batch is too small for a part each, one has a step more than another and waits for
    ever, so an incomplete last batch is left out.

    Args:
        data: What `fit` is given; only data sets of `tf.data` are shared by Keras.

    Returns:
        The same where there is one device, or it is no such data set.

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
            f"A batch has {rows} rows, which {devices} devices cannot share equally; make the batches a multiple "
            f"of {devices}."
        )
    return data.rebatch(rows, drop_remainder=True)
