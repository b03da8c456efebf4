"""Reads a folder written by `Dataset.save_to_disk` of Hugging Face Datasets.

dataset_info.json describes the features, state.json lists the files, and Arrow streams contain
the rows. Class labels are stored as numbers and returned as names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_peft.data.readers import arrow
from keras_peft.data.readers._formats import FORMATS, ending_of
from keras_peft.data.readers._hugging_face import LabelNames
from keras_peft.data.readers._limits import LONGEST
from keras_peft.data.readers._table import Row, Table
from keras_peft.errors import DataError, listed

_INFO, _STATE = "dataset_info.json", "state.json"


def table(folder: Path) -> Table:
    """Opens the dataset in a folder.

    Args:
        folder: The folder of the dataset.

    Raises:
        DataError: If the folder is not a saved dataset, contains several datasets, or is incomplete.
    """
    _check_kind(folder)
    state, info = _read_object(folder / _STATE), _read_object(folder / _INFO)
    files = _files(folder, state)
    return Table(
        str(folder), "Hugging Face dataset", lambda chunk: _rows(folder, files, info.get("features"), chunk)
    )


def _rows(folder: Path, files: list[Path], features: Any, chunk: int) -> Iterator[list[Row]]:
    names = LabelNames(features, str(folder))
    for file in files:
        for rows in arrow.read(file, chunk) if file.stat().st_size else ():
            names.put_into(rows)
            yield rows


def _check_kind(folder: Path) -> None:
    if (folder / _STATE).is_file() and (folder / _INFO).is_file():
        return
    parts = sorted(path.parent.name for path in folder.glob(f"*/{_STATE}"))
    if parts:
        raise DataError(
            f"{folder} contains {len(parts)} datasets; choose one: {listed(str(folder / part) for part in parts)}."
        )
    inside = sorted(path.name for path in folder.iterdir() if ending_of(path) in FORMATS)
    hint = f" Or choose a file in it: {listed(inside, most=5)}." if inside else ""
    raise DataError(
        f"{folder} has no {_INFO} or {_STATE}, so Dataset.save_to_disk did not write it, and no folders of .txt files, "
        f"one for each label; expected such a folder, or a file ({', '.join(FORMATS)}).{hint}"
    )


def _files(folder: Path, state: dict[str, Any]) -> list[Path]:
    entries = state.get("_data_files")
    names: list[Any] = [entry.get("filename") if isinstance(entry, dict) else None for entry in entries or ()]
    # A file name that contains a path could point outside the folder.
    if not isinstance(entries, list) or not all(
        isinstance(name, str) and Path(name).name == name for name in names
    ):
        raise DataError(f"{folder / _STATE} does not list the files of the dataset; save the dataset again.")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(
            f"{folder} stores its rows through an index, as datasets before 1.7 did; save it again with a newer one."
        )
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise DataError(f"{folder} is incomplete: it lacks {listed(missing)}; copy it or save it again.")
    return [folder / name for name in names]


def _read_object(path: Path) -> dict[str, Any]:
    if path.stat().st_size > LONGEST:
        raise DataError(f"{path} is larger than {LONGEST >> 20} MiB; save the dataset again.")
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); save the dataset again.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object; save the dataset again.")
    return content
