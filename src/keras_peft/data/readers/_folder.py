"""Reads a folder written by `Dataset.save_to_disk` of Hugging Face Datasets.

dataset_info.json describes the features, state.json lists the files, and Arrow streams contain
the rows. Class labels are stored as numbers and returned as names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from keras_peft.data.readers import arrow
from keras_peft.data.readers._formats import FORMATS, ending_of
from keras_peft.errors import DataError, listed

_INFO, _STATE = "dataset_info.json", "state.json"


def read(folder: Path, chunk: int) -> Iterator[list[dict[str, Any]]]:
    """Yields the rows of the dataset's files in their order.

    Args:
        folder: The folder of the dataset.
        chunk: Approximate number of rows per list.

    Raises:
        DataError: If the folder is not a saved dataset, contains several datasets, or is incomplete.
    """
    _check_kind(folder)
    state, info = _read_object(folder / _STATE), _read_object(folder / _INFO)
    files = _files(folder, state)
    features = info.get("features")
    named = {
        column: name
        for column, feature in (features if isinstance(features, dict) else {}).items()
        if (name := _namer(feature))
    }
    number = 0
    for file in files:
        for rows in arrow.read(file, chunk) if file.stat().st_size else ():
            for row in rows:
                number += 1
                for column in named.keys() & row.keys():
                    try:
                        row[column] = named[column](row[column])
                    except (IndexError, TypeError, AttributeError):
                        raise DataError(
                            f"{folder}, row {number}: {row[column]!r} in the column {column!r} is not the number "
                            f"of a label in {_INFO}; save the dataset again."
                        ) from None
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
        f"{folder} has no {_INFO} or {_STATE}, so Dataset.save_to_disk did not write it; "
        f"expected such a folder, or a file ({', '.join(FORMATS)}).{hint}"
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


def _namer(feature: Any) -> Callable[[Any], Any] | None:
    """Returns a function that replaces label numbers in a feature's values with names, or None."""
    if isinstance(feature, list):  # Old notation for a list.
        return _each(feature[0]) if feature else None
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        names = feature.get("names")
        return (lambda value: _name(names, value)) if isinstance(names, list) else None
    if "_type" in feature:
        return _each(feature.get("feature"))
    inner = {key: name for key, value in feature.items() if (name := _namer(value))}
    if not inner:
        return None
    return lambda value: value and {key: inner[key](v) if key in inner else v for key, v in value.items()}


def _each(feature: Any) -> Callable[[Any], Any] | None:
    name = _namer(feature)
    if name is None:
        return None
    if isinstance(feature, dict) and "_type" not in feature:
        # A `Sequence` of objects is stored as an object of lists.
        def objects(values: Any) -> Any:
            if isinstance(values, dict):
                inner = {key: _each(value) for key, value in feature.items()}
                return {key: one(v) if (one := inner.get(key)) else v for key, v in values.items()}
            return values and [name(value) for value in values]

        return objects
    return lambda values: values and [name(value) for value in values]


def _name(names: list[Any], value: Any) -> Any:
    # A missing label is None, or -1 as in the test sets of benchmarks.
    if value is None or value == -1:
        return None
    if value < 0:
        raise IndexError(value)
    return names[value]


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON ({error}); save the dataset again.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object; save the dataset again.")
    return content
