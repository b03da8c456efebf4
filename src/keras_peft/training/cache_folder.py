"""The folder of cached features."""

from __future__ import annotations

import shutil
from pathlib import Path

from keras_peft.files import cache_folder

# Every folder of cached features contains this file.
INDEX = "arrays.json"


def trunk_folder() -> Path:
    """Returns the folder of cached features, with one subfolder per base and set of texts."""
    return cache_folder() / "trunk"


def kept() -> list[tuple[Path, int]]:
    """Lists the cached features, most recently used first.

    Returns:
        (folder, size in bytes) of each.
    """
    folders = [path.parent for path in trunk_folder().glob(f"*/{INDEX}")]
    sizes = [(path, sum(file.stat().st_size for file in path.iterdir())) for path in folders]
    return sorted(sizes, key=lambda entry: -entry[0].stat().st_mtime)


def remove_oldest(*, most: int, without: Path) -> None:
    """Removes the least recently used features until the total size is within a limit.

    Args:
        most: Maximum total size, in bytes.
        without: Folder in use, which is not removed.
    """
    for path, size in kept():
        most -= size
        if most < 0 and path != without:
            shutil.rmtree(path, ignore_errors=True)
