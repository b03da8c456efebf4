"""Names of the class labels that Hugging Face Datasets stores as numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_peft.data.readers._table import Row
from keras_peft.errors import DataError


class LabelNames:
    """Replaces numbers of labels by names.

    Args:
        features: Description of the columns, as in dataset_info.json.
        source: Name of the data, for messages.
    """

    def __init__(self, features: Any, source: str) -> None:
        self._source = source
        self._named = {
            column: name
            for column, feature in (features if isinstance(features, dict) else {}).items()
            if (name := _namer(feature))
        }
        self._number = 0

    def __bool__(self) -> bool:
        return bool(self._named)

    def put_into(self, rows: list[Row]) -> None:
        """Changes the rows.

        Raises:
            DataError: If a value is not the number of a label.
        """
        for row in rows:
            self._number += 1
            for column in self._named.keys() & row.keys():
                try:
                    row[column] = self._named[column](row[column])
                except (IndexError, TypeError, AttributeError):
                    raise DataError(
                        f"{self._source}, row {self._number}: {row[column]!r} in the column {column!r} is not the "
                        "number of a label in its description; save the dataset again."
                    ) from None


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
