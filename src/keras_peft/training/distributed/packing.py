"""Plain values and arrays as one array of bytes, which processes exchange."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np

_ARRAY = "array"


def packed(content: Any) -> np.ndarray:
    """Packs content into bytes.

    Args:
        content: None, numbers, strings, NumPy arrays, and lists, tuples or dicts of them, whose keys are strings.

    Returns:
        The bytes, (bytes,) uint8.

    Raises:
        TypeError: If the content is of another type.

    Example:
        >>> unpacked(packed({"rows": np.arange(3), "name": "a"}))["rows"]
        array([0, 1, 2])
    """
    arrays: list[np.ndarray] = []
    structure = json.dumps(_without_arrays(content, arrays))
    stream = io.BytesIO()
    np.savez(stream, np.frombuffer(structure.encode(), np.uint8), *arrays)
    return np.frombuffer(stream.getbuffer(), np.uint8)


def unpacked(data: np.ndarray) -> Any:
    """Returns the content that `packed` packed; tuples become lists.

    Args:
        data: The bytes, (bytes,) uint8.
    """
    with np.load(io.BytesIO(data.tobytes()), allow_pickle=False) as file:
        structure, *arrays = [file[f"arr_{number}"] for number in range(len(file.files))]
    return _with_arrays(json.loads(structure.tobytes()), arrays)


def _without_arrays(content: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(content, np.ndarray):
        arrays.append(content)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(content, np.generic):
        return content.item()
    if isinstance(content, dict):
        return {"dict": {key: _without_arrays(value, arrays) for key, value in content.items()}}
    if isinstance(content, list | tuple):
        return [_without_arrays(value, arrays) for value in content]
    return content


def _with_arrays(content: Any, arrays: list[np.ndarray]) -> Any:
    if isinstance(content, list):
        return [_with_arrays(value, arrays) for value in content]
    if isinstance(content, dict):
        if _ARRAY in content:
            return arrays[content[_ARRAY]]
        return {key: _with_arrays(value, arrays) for key, value in content["dict"].items()}
    return content
