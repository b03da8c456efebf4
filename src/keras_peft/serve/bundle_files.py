"""Safe reading of the files of untrusted bundles."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft.core.weights import weights_in
from keras_peft.errors import BundleError, BundleMismatch

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bundle import Bundle

# Far above the size of any real bundle, far below the memory of a server.
_MOST_BYTES = {"adapter.safetensors": 1 << 30, "bundle.json": 4 << 20}
_MOST_BYTES_OF_OTHERS = 64 << 20


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
    return weights_in(read_checked(bundle, name), name)
