"""Adapter tensors <-> safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import safetensors
import safetensors.numpy

from keras_peft.core.adapted import AdaptedModel, restore
from keras_peft.errors import AdapterError


def adapter_tensors(model: AdaptedModel) -> dict[str, np.ndarray]:
    """Copies what a model trains, keyed by site path.

    Returns:
        Float32 arrays: adapter, moved variables of the base, and head.
    """
    return {
        key: keras.ops.convert_to_numpy(variable).astype(np.float32)
        for key, variable in model.adapter_variables().items()
    }


def assign_adapter_tensors(model: AdaptedModel, tensors: Mapping[str, np.ndarray]) -> None:
    """Puts tensors into a model that was adapted in the same way.

    Raises:
        AdapterError: If any key is missing, extra or misshapen, or a value is not
            finite; all of them are in the message, and nothing is assigned then.
    """
    restore(model.adapter_variables(), tensors)


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors as a safetensors file.

    Raises:
        OSError: If the file cannot be written whole.
    """
    # Made in memory first: the adapter is small, and the plain write below
    # reports a full disk as the OSError that it is.
    data = safetensors.numpy.save({key: np.ascontiguousarray(value) for key, value in tensors.items()})
    path.write_bytes(data)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file.

    Raises:
        AdapterError: If the file is not safetensors or is cut short.
    """
    try:
        return dict(safetensors.numpy.load_file(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise AdapterError(f"{path.name} cannot be read as safetensors: {error}.") from error
