"""An adapter as files: its tensors as safetensors, and what it is as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from keras_peft.errors import AdapterError


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors as a safetensors file.

    Raises:
        OSError: If the file cannot be written whole.
    """
    # Made in memory first: the adapter is small, and the plain write below
    # reports a full disk as the OSError that it is.
    data = safetensors.numpy.save({key: np.asarray(value, order="C") for key, value in tensors.items()})
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
