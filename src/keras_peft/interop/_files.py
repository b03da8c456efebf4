"""Files as the libraries of PyTorch write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_torch_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file that PyTorch's libraries take for one of theirs.

    Raises:
        OSError: If it cannot be written whole.
    """
    import safetensors.numpy

    own = {name: np.asarray(value, order="C") for name, value in tensors.items()}
    path.write_bytes(safetensors.numpy.save(own, {"format": "pt"}))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file for people to read, too.

    Raises:
        OSError: If it cannot be written whole.
    """
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
