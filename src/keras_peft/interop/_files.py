"""Files in the layout that PyTorch libraries expect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


def write_json(path: Path, content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes an indented JSON file.

    Args:
        path: File to write.
        content: The JSON object or list.

    Raises:
        OSError: If the file cannot be written completely.
    """
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
