"""Label Studio: the JSON export, with the annotations of each task. https://labelstud.io/guide/export

Its CSV, TSV and JSON-MIN exports are plain tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from keras_peft.data.exports._left_out import LeftOut
from keras_peft.data.readers import Row

NAME = "Label Studio"
# Tasks in which the controls are looked for.
_LOOKED_AT = 4096
# How a result is named after its kind.
_CHOSEN = ("choices", "rating", "number", "taxonomy")


def recognises(rows: Sequence[Row]) -> bool:
    """Reports whether the rows are tasks with annotations."""
    return all(
        isinstance(row.get("data"), dict) and isinstance(row.get("annotations", row.get("completions")), list)
        for row in rows
    )


def convert(rows: Iterable[Row]) -> Iterator[Row | LeftOut]:
    """Yields each task with its annotation; tasks with different annotations are left out.

    If there are several controls, such as one for the topic and one for the sentiment, each becomes a column.
    """
    iterator = iter(rows)
    first = list(islice(iterator, _LOOKED_AT))
    controls = {name for row in first for one in _annotations(row) for name in _labels(one.get("result"))}
    for row in chain(first, iterator):
        given = _annotations(row)
        valid = [one for one in given if not one.get("was_cancelled")]
        if not valid:
            yield LeftOut("skipped" if given else "not annotated")
            continue
        labels = [_labels(one.get("result")) for one in valid]
        if any(_comparable(label) != _comparable(labels[0]) for label in labels):
            yield LeftOut("annotated differently by several people")
            continue
        data = row["data"]
        texts = [key for key, value in data.items() if isinstance(value, str)]
        plain = dict(data)
        if "text" not in plain and len(texts) == 1:
            plain["text"] = plain.pop(texts[0])
        if len(controls) > 1:
            yield {**plain, **dict.fromkeys(sorted(controls)), **labels[0]}
        else:
            # Without a result, nothing is marked or nothing applies.
            yield {**plain, "label": next(iter(labels[0].values()), [])}


def _annotations(row: Row) -> list[dict[str, Any]]:
    given = row.get("annotations", row.get("completions")) or []
    return [one for one in given if isinstance(one, dict)]


def _labels(results: Any) -> dict[str, Any]:
    """Returns the choices, the number, or the marked spans of an annotation, by the name of the control."""
    found: dict[str, Any] = {}
    for result in results or []:
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict):
            continue
        name = str(result.get("from_name") or "label")
        if "start" in value and "end" in value:
            found.setdefault(name, []).append(value)
            continue
        for kind in _CHOSEN:
            if kind in value:
                chosen = value[kind]
                if kind == "taxonomy" and isinstance(chosen, list):
                    chosen = [path[-1] if isinstance(path, list) and path else path for path in chosen]
                found[name] = chosen
    return found


def _comparable(labels: dict[str, Any]) -> dict[str, Any]:
    """Returns labels without the order in which an annotator chose them."""
    return {
        name: sorted(map(str, value)) if isinstance(value, list) else value for name, value in labels.items()
    }
