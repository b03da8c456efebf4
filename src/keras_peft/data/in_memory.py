"""Tables that are already in memory: lists, dicts, and frames of pandas, Polars, Arrow and Hugging Face Datasets.

The libraries are recognised by their types and are not imported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from keras_peft.data.readers import Row, Table
from keras_peft.data.readers._hugging_face import LabelNames
from keras_peft.errors import DataError, listed

EXPECTED = (
    "expected the path of a file, a list of dicts or of (text, label) pairs, a dict of columns, or a frame of pandas, "
    "Polars, Arrow or Hugging Face Datasets"
)


_FRAMES = {
    ("pandas", "DataFrame"),
    ("polars", "DataFrame"),
    ("polars", "LazyFrame"),
    ("pyarrow", "Table"),
    ("pyarrow", "RecordBatch"),
}


def table(data: Any) -> Table:
    """Makes a table of data in memory.

    Args:
        data: A list of dicts or of (text, label) pairs, a dict of columns, a pandas or Polars frame, an Arrow
            table, or a Hugging Face dataset.

    Returns:
        The table. Values of NumPy and pandas become plain values, and missing ones None.

    Raises:
        DataError: If the data is none of these.

    Example:
        >>> table([("It is fast.", "opinion")]).form
        'list of (text, label) pairs'
    """
    module, name = type(data).__module__.partition(".")[0], type(data).__name__
    if module == "pandas" and name == "DataFrame":
        columns = _names([str(column) for column in data.columns])
        return _table(
            "the pandas frame", "pandas frame", lambda chunk: _pandas(data, columns, chunk), columns
        )
    if module == "polars" and name in ("DataFrame", "LazyFrame"):
        frame = data.collect() if name == "LazyFrame" else data
        return _table("the Polars frame", "Polars frame", lambda chunk: _polars(frame, chunk), frame.columns)
    if module == "pyarrow" and name in ("Table", "RecordBatch"):
        return _table("the Arrow table", "Arrow table", lambda chunk: _arrow(data, chunk), data.schema.names)
    if module == "datasets" and name.endswith("DatasetDict"):
        raise DataError(f"Got several datasets; choose one: {listed(f'data[{key!r}]' for key in data)}.")
    if module == "datasets" and hasattr(data, "column_names"):
        # A streamed dataset may not know its columns.
        columns = data.column_names or list(next(iter(data), {}))
        return _table("the dataset", "Hugging Face dataset", lambda chunk: _dataset(data, chunk), columns)
    if isinstance(data, Mapping):
        return _columns(data)
    if _are_texts_and_labels(data):
        return replace(
            _columns({"text": data[0], "label": data[1]}), name="the pair", form="texts and labels"
        )
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        return _list(data)
    if isinstance(data, Iterable) and not isinstance(data, str | bytes):
        return _list(list(data))
    raise DataError(f"Got {_kind(data)}; {EXPECTED}.")


def is_frame(data: Any) -> bool:
    """Reports whether data is a frame of one of the libraries."""
    module, name = type(data).__module__.partition(".")[0], type(data).__name__
    return (module, name) in _FRAMES or (module == "datasets" and hasattr(data, "column_names"))


def _table(name: str, form: str, batches: Any, columns: Iterable[Any]) -> Table:
    if not list(columns):
        raise DataError(f"{name[0].upper()}{name[1:]} has no columns; {EXPECTED}.")
    return Table(name, form, batches)


def _names(columns: list[str]) -> list[str]:
    if len(set(columns)) < len(columns):
        twice = listed(sorted({repr(name) for name in columns if columns.count(name) > 1}))
        raise DataError(f"The pandas frame has several columns of the same name: {twice}; rename them.")
    return columns


def _pandas(frame: Any, columns: list[str], chunk: int) -> Iterator[list[Row]]:
    for start in range(0, len(frame), chunk):
        part = frame.iloc[start : start + chunk]
        values = [[_plain(value) for value in part.iloc[:, place].tolist()] for place in range(len(columns))]
        yield [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _polars(frame: Any, chunk: int) -> Iterator[list[Row]]:
    for part in frame.iter_slices(chunk):
        yield [{name: _plain(value) for name, value in row.items()} for row in part.to_dicts()]


def _arrow(table: Any, chunk: int) -> Iterator[list[Row]]:
    described = (table.schema.metadata or {}).get(b"huggingface")
    names = LabelNames(_described(described), "the Arrow table")
    for start in range(0, table.num_rows, chunk):
        rows = table.slice(start, chunk).to_pylist()
        names.put_into(rows)
        yield rows


def _described(metadata: bytes | None) -> Any:
    import json

    try:
        return json.loads(metadata or b"{}")["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return None


def _dataset(dataset: Any, chunk: int) -> Iterator[list[Row]]:
    features = dataset.features
    names = LabelNames(features.to_dict() if features is not None else None, "the dataset")
    rows: list[Row] = []
    for row in dataset:
        rows.append({name: _plain(value) for name, value in row.items()})
        if len(rows) == chunk:
            names.put_into(rows)
            yield rows
            rows = []
    if rows:
        names.put_into(rows)
        yield rows


def _columns(data: Mapping[Any, Any]) -> Table:
    wrong = [
        key
        for key, values in data.items()
        if isinstance(values, str | bytes) or not hasattr(values, "__len__")
    ]
    if not data or wrong:
        what = (
            f"a dict with a value that is not a list ({listed(map(repr, wrong))})"
            if wrong
            else "an empty dict"
        )
        raise DataError(f"Got {what}; {EXPECTED}.")
    lengths = {str(key): len(values) for key, values in data.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"Got columns of different lengths: {listed(f'{key} {n}' for key, n in lengths.items())}."
        )
    values = {str(key): [_plain(value) for value in own] for key, own in data.items()}
    rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return Table("the dict of columns", "dict of columns", lambda chunk: _batches(rows, chunk))


def _list(data: Sequence[Any]) -> Table:
    if not len(data):
        raise DataError(f"Got an empty list; {EXPECTED}.")
    if all(isinstance(row, Mapping) for row in data):
        columns = dict.fromkeys(str(key) for row in data for key in row)
        rows = [
            {**dict.fromkeys(columns), **{str(key): _plain(value) for key, value in row.items()}}
            for row in data
        ]
        return Table("the list", "list of dicts", lambda chunk: _batches(rows, chunk))
    if all(isinstance(row, Sequence) and not isinstance(row, str | bytes) and len(row) == 2 for row in data):
        pairs = [_pair(text, label) for text, label in data]
        return Table("the list", "list of (text, label) pairs", lambda chunk: _batches(pairs, chunk))
    if all(isinstance(row, str) for row in data):
        texts: list[Row] = [{"text": text} for text in data]
        return Table("the list", "list of texts", lambda chunk: _batches(texts, chunk))
    kinds = listed(sorted({_kind(row) for row in data}), most=4)
    raise DataError(f"Got a list of {kinds}; {EXPECTED}.")


def _are_texts_and_labels(data: Any) -> bool:
    """Reports whether data is a tuple of all texts and all labels."""
    return (
        isinstance(data, tuple)
        and len(data) == 2
        and all(
            hasattr(one, "__len__") and not isinstance(one, str | bytes | Mapping | tuple) for one in data
        )
    )


def _pair(text: Any, label: Any) -> Row:
    """Returns the row of a text, or of two texts, with its label or, as in spaCy, with its annotations."""
    is_pair = isinstance(text, list | tuple) and len(text) == 2 and all(isinstance(one, str) for one in text)
    if is_pair and not isinstance(label, list | tuple):
        row: Row = {"text_a": _plain(text[0]), "text_b": _plain(text[1])}
    else:
        row = {"text": _plain(text)}
    if isinstance(label, Mapping):
        return {**{str(key): _plain(value) for key, value in label.items()}, **row}
    return {**row, "label": _plain(label)}


def _batches(rows: list[Row], chunk: int) -> Iterator[list[Row]]:
    return (rows[start : start + chunk] for start in range(0, len(rows), chunk))


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def _plain(value: Any) -> Any:
    """Returns a value without types of NumPy and pandas; missing values become None."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return None if value != value else float(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, set | frozenset):
        return sorted((_plain(one) for one in value), key=str)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    name = type(value).__name__
    if type(value).__module__.startswith(("tensorflow", "torch")) and hasattr(value, "numpy"):
        value = value.numpy()
        return _plain(value if isinstance(value, bytes) else value.tolist())
    if name in ("NAType", "NaTType"):
        return None
    if hasattr(value, "tolist"):  # a scalar or an array of NumPy
        return _plain(value.tolist())
    return value
