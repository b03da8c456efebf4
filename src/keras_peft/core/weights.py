"""Read and write an adapter's tensors as safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from keras_peft.errors import AdapterError, listed
from keras_peft.json_files import JsonError, parse_object

# Floating-point types by their names in a file.
_FLOATS = ("F64", "F32", "F16", "BF16")
_MOST_HEADER_BYTES = 8 << 20


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
    """Reads a safetensors file that this program wrote, with tensors of any type.

    Raises:
        AdapterError: If the file is not valid safetensors or is truncated.
    """
    try:
        return dict(safetensors.numpy.load_file(path))
    except (safetensors.SafetensorError, OSError, ValueError) as error:  # NumPy has at most 64 dimensions
        raise _invalid(path.name, error) from error


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Reads the shapes of the weights in a safetensors file, and nothing else of it.

    Args:
        path: The file.

    Returns:
        The shapes by key. The file is as large as they say.

    Raises:
        AdapterError: If the file is not valid safetensors, or has tensors that are not floating-point.
    """
    try:
        with path.open("rb") as file:
            _refuse_header(file.read(8), file.read(_MOST_HEADER_BYTES), path.name)
        with safetensors.safe_open(path, "numpy") as opened:
            return {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError) as error:
        raise _invalid(path.name, error) from error


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Reads the weights in a safetensors file.

    Args:
        path: The file.

    Returns:
        Floating-point arrays by key.

    Raises:
        AdapterError: If the file is not valid safetensors, or has tensors that are not floating-point.
    """
    read_shapes(path)
    return read_tensors(path)


def weights_in(data: bytes, name: str) -> dict[str, np.ndarray]:
    """Reads the weights in the content of a safetensors file; see `read_weights`.

    Args:
        data: The content.
        name: Name of the file, for messages.
    """
    _refuse_header(data[:8], data[8 : 8 + _MOST_HEADER_BYTES], name)
    try:
        return dict(safetensors.numpy.load(data))
    except KeyError as error:  # The library reads bfloat16 from files only.
        raise AdapterError(f"{name} has tensors of the type {error}; save it again as float32.") from None
    except (safetensors.SafetensorError, ValueError) as error:
        raise _invalid(name, error) from None


def _refuse_header(size: bytes, header: bytes, name: str) -> None:
    """Refuses a header that is too long, and tensors that are not floating-point.

    The library checks the rest: that the shapes and types of the tensors fit their bytes, and these the file.
    """
    length = int.from_bytes(size, "little")
    if length > _MOST_HEADER_BYTES:
        raise AdapterError(
            f"{name} has a header of {length:,} bytes; expected at most {_MOST_HEADER_BYTES:,}."
        )
    try:
        described = parse_object(header[:length])
    except JsonError as error:
        raise AdapterError(f"{name} is not a valid safetensors file: its header {error}.") from None
    types = {
        key: one.get("dtype") if isinstance(one, dict) else None
        for key, one in described.items()
        if key != "__metadata__"
    }
    if strange := [f"{key} ({kind})" for key, kind in types.items() if kind not in _FLOATS]:
        raise AdapterError(
            f"{name} has tensors that are not floating-point numbers of 16, 32 or 64 bits: {listed(strange)}; save it "
            "again as float32."
        )


def _invalid(name: str, error: Exception) -> AdapterError:
    return AdapterError(f"{name} is not a valid safetensors file: {error}.")
