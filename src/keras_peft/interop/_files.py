"""Files in the layout that PyTorch libraries expect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np


def write_torch_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file with the metadata that PyTorch libraries expect.

    Args:
        path: File to write.
        tensors: Arrays by name.

    Raises:
        OSError: If the file cannot be written completely.
    """
    import safetensors.numpy

    own = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    path.write_bytes(safetensors.numpy.save(own, {"format": "pt"}))
