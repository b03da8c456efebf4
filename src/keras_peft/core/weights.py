"""Read and write an adapter's tensors as safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from keras_peft.errors import AdapterError


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes tensors to a safetensors file.

    Raises:
        OSError: If the file cannot be written completely.
    """
    # Serialized in memory first: the adapter is small, and the plain write below reports a full
    # disk as an OSError.
    data = safetensors.numpy.save({key: np.asarray(value, order="C") for key, value in tensors.items()})
    path.write_bytes(data)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Reads a safetensors file.

    Raises:
        AdapterError: If the file is not valid safetensors or is truncated.
    """
    try:
        return dict(safetensors.numpy.load_file(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise AdapterError(f"{path.name} is not a valid safetensors file: {error}.") from error
