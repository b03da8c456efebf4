"""Safe reading of the files of untrusted bundles."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors
import safetensors.numpy

from keras_peft.errors import AdapterError, BundleError, BundleMismatch, listed

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.core.placement import Placement

# Far above the size of any real bundle, far below the memory of a server.
_MOST_BYTES = {"adapter.safetensors": 1 << 30, "bundle.json": 4 << 20}
_MOST_BYTES_OF_OTHERS = 64 << 20
_MOST_HEADER_BYTES = 8 << 20


def refuse_strange_files(folder: Path) -> None:
    """Refuses symbolic links, special files and oversized files, before anything is read.

    Args:
        folder: Folder of the bundle.

    Raises:
        BundleError: If there are any. The message lists all of them.
    """
    problems = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith("."):
            continue
        most = _MOST_BYTES.get(file.name, _MOST_BYTES_OF_OTHERS)
        if file.is_symlink():
            problems.append(f"{file.name} is a link; replace it with the file itself.")
        elif not file.is_file():
            problems.append(f"{file.name} is not a file.")
        elif (size := file.stat().st_size) > most:
            problems.append(f"{file.name} has {size:,} bytes; expected at most {most:,}.")
    if problems:
        raise BundleError(" ".join(problems))


def refuse_long_texts(bundle: Bundle, placements: Sequence[Placement], most: int) -> None:
    """Refuses a bundle that reads longer texts than the base model.

    Args:
        bundle: The bundle.
        placements: Its methods, which may take positions of the base model.
        most: Most tokens that the base model reads.

    Raises:
        BundleMismatch: If its texts are longer.
    """
    taken = sum(placement.method.extra_positions for placement in placements)
    asked = bundle.content["max_length"]
    if asked > most - taken:
        raise BundleMismatch(
            f"It reads up to {asked} tokens per text, but the base model reads at most {most - taken} in addition to "
            f"its {taken} own."
        )


def read_checked(bundle: Bundle, name: str) -> bytes:
    """Reads a file and verifies its checksum against bundle.json.

    Args:
        bundle: The bundle.
        name: Name of the file.

    Returns:
        The content of the file.

    Raises:
        BundleMismatch: If the file has changed.
    """
    data = (bundle.folder / name).read_bytes()
    if hashlib.sha256(data).hexdigest() != bundle.content["files"].get(name):
        raise BundleMismatch(f"{name} was modified while the bundle was read; try again.")
    return data


def read_tensors(bundle: Bundle) -> dict[str, np.ndarray]:
    """Reads the tensors of a bundle, after verifying the checksum of the file.

    Args:
        bundle: The bundle.

    Returns:
        Floating-point arrays by key.

    Raises:
        AdapterError: If the file is not valid safetensors, or has tensors that are not
            floating-point.
        BundleMismatch: If the file has changed.
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
        raise AdapterError(f"{name} is not a valid safetensors file: {error}.") from None
    if strange := [f"{key} ({value.dtype})" for key, value in tensors.items() if value.dtype.kind != "f"]:
        raise AdapterError(f"{name} has values that are not floating-point numbers: {listed(strange)}.")
    return dict(tensors)
