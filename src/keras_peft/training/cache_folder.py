"""What trainings keep so that it is computed once only: the features of texts under a base."""

from __future__ import annotations

import shutil
from pathlib import Path

from keras_peft.files import cache_folder

# It is in the folder of every set of features.
INDEX = "arrays.json"


def trunk_folder() -> Path:
    """Returns the folder of kept features, with a folder for each base and set of texts."""
    return cache_folder() / "trunk"


def kept() -> list[tuple[Path, int]]:
    """Lists the kept features, those used last first: their folders, and sizes in bytes."""
    folders = [path.parent for path in trunk_folder().glob(f"*/{INDEX}")]
    sizes = [(path, sum(file.stat().st_size for file in path.iterdir())) for path in folders]
    return sorted(sizes, key=lambda entry: -entry[0].stat().st_mtime)


def remove_oldest(*, most: int) -> None:
    """Removes the features used longest ago until the others have no more than so many bytes."""
    for path, size in kept():
        most -= size
        if most < 0:
            shutil.rmtree(path, ignore_errors=True)
