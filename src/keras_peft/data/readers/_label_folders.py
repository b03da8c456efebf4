"""Reads a folder that contains a folder of .txt files for each label, such as aclImdb/train."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from keras_peft.data.readers._limits import LONGEST, too_long
from keras_peft.data.readers._table import Row, Table
from keras_peft.data.readers._text import check_text, in_chunks, open_text
from keras_peft.errors import DataError, listed

# Folders of texts without labels.
_UNLABELLED = {"unsup", "unlabeled", "unlabelled"}
_PARTS = ("train", "test")


def texts_by_label(folder: Path) -> dict[str, list[Path]]:
    """Returns the files of each label, in the order of their names.

    Args:
        folder: A folder.

    Returns:
        The .txt files by the names of their folders; empty if there are no such folders.

    Raises:
        DataError: If the folders of labels are in folders such as `train` and `test`.
    """
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {path.name: sorted(path.glob("*.txt")) for path in folders}
    found = {name: files for name, files in found.items() if files}
    if found:
        return found
    if parts := [path for path in folders if path.name in _PARTS and next(path.glob("*/*.txt"), None)]:
        raise DataError(
            f"{folder} contains separate training and test folders; choose one: {listed(map(str, parts))}."
        )
    return {}


def table(folder: Path, files: dict[str, list[Path]]) -> Table:
    """Opens the texts of a folder; the name of a text's folder is its label.

    Args:
        folder: The folder.
        files: Its files by label, from `texts_by_label`.
    """
    labelled = {name: own for name, own in files.items() if name.lower() not in _UNLABELLED}
    notes = tuple(
        f"the {len(own):,} texts in {name} have no labels and were left out"
        for name, own in files.items()
        if name not in labelled
    )
    return Table(
        str(folder),
        f"a folder of texts for each of {len(labelled)} labels",
        lambda chunk: in_chunks(_rows(labelled), chunk),
        notes,
    )


def _rows(files: dict[str, list[Path]]) -> Iterator[Row]:
    for label, own in files.items():
        for file in own:
            if file.stat().st_size:
                check_text(file)
                with open_text(file) as opened:
                    text = opened.read(LONGEST + 1)
                if len(text) > LONGEST:
                    raise too_long(str(file))
            else:
                text = ""
            yield {"text": text, "label": label, "file": file.name}
