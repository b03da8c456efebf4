"""The files of a bundle that anyone may have written: what they may be, and their very bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.numpy

from keras_peft.errors import AdapterError, BundleError, BundleMismatch, listed

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle

# Far above what any bundle has, far below what would fill a server's memory.
_MOST_BYTES = {"adapter.safetensors": 1 << 30, "bundle.json": 4 << 20}
_MOST_BYTES_OF_OTHERS = 64 << 20
_MOST_HEADER_BYTES = 8 << 20


def refuse_strange_files(folder: Path) -> None:
    """Refuses, before anything is read, links, what is no file, and what is too large.

    Raises:
        BundleError: If there are such; all are in the message.
    """
    problems = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        most = _MOST_BYTES.get(file.name, _MOST_BYTES_OF_OTHERS)
        if file.is_symlink():
            problems.append(f"{file.name} is a link; put the file itself there.")
        elif not file.is_file():
            problems.append(f"{file.name} is no file.")
        elif (size := file.stat().st_size) > most:
            problems.append(f"{file.name} has {size:,} bytes; expected at most {most:,}.")
    if problems:
        raise BundleError(" ".join(problems))


def read_checked(bundle: Bundle, name: str) -> bytes:
    """Reads a file again and checks that it is still the one that bundle.json means.

    Raises:
        BundleMismatch: If it was changed meanwhile.
    """
    data = (bundle.folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != bundle.content["files"].get(name):
        raise BundleMismatch(f"{name} was changed while the bundle was read; try again.")
    return data


def read_tensors(bundle: Bundle) -> dict[str, np.ndarray]:
    """Reads the tensors from the very bytes whose sum is known.

    Returns:
        Floating-point arrays by their keys.

    Raises:
        AdapterError: If the file is not safetensors, or has other numbers.
        BundleMismatch: If it was changed meanwhile.
    """
    name = "adapter.safetensors"
    data = read_checked(bundle, name)
    header = int.from_bytes(data[:8], "little")
    if header > _MOST_HEADER_BYTES:
        raise AdapterError(
            f"{name} has a header of {header:,} bytes; expected at most {_MOST_HEADER_BYTES:,}."
        )
    try:
        tensors = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise AdapterError(f"{name} cannot be read as safetensors: {error}.") from None
    if strange := [f"{key} ({value.dtype})" for key, value in tensors.items() if value.dtype.kind != "f"]:
        raise AdapterError(f"{name} has values that are no floating-point numbers: {listed(strange)}.")
    return dict(tensors)
