"""Label Studio: the JSON export, with the annotations of each task. https://labelstud.io/guide/export

Its CSV, TSV and JSON-MIN exports are plain tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from keras_peft.data.exports._left_out import LeftOut
from keras_peft.data.readers import Row

TOOL = "Label Studio"
# How a result is named after its kind.
_CHOSEN = ("choices", "rating", "number", "taxonomy")


def recognises(rows: Sequence[Row]) -> bool:
    """Reports whether the rows are tasks with annotations."""
    return all(
        isinstance(row.get("data"), dict) and isinstance(row.get("annotations", row.get("completions")), list)
        for row in rows
    )


def convert(rows: Iterable[Row]) -> Iterator[Row | LeftOut]:
    """Yields each task with its annotation; of several that differ, none is right."""
    for row in rows:
        given = row.get("annotations", row.get("completions")) or []
        given = [one for one in given if isinstance(one, dict)]
        valid = [one for one in given if not one.get("was_cancelled")]
        if not valid:
            yield LeftOut("skipped" if given else "not annotated")
            continue
        labels = [_label(one.get("result")) for one in valid]
        if any(label != labels[0] for label in labels):
            yield LeftOut("annotated differently by several people")
            continue
        data = row["data"]
        texts = [key for key, value in data.items() if isinstance(value, str)]
        plain = dict(data)
        if "text" not in plain and len(texts) == 1:
            plain["text"] = plain.pop(texts[0])
        yield {**plain, "label": labels[0]}


def _label(results: Any) -> Any:
    """Returns the choices, the number, or the marked spans of an annotation."""
    given = [one.get("value") for one in results or [] if isinstance(one, dict)]
    values: list[dict[str, Any]] = [value for value in given if isinstance(value, dict)]
    spans = [value for value in values if "start" in value and "end" in value]
    if spans:
        return spans
    for value in values:
        for kind in _CHOSEN:
            if kind in value:
                chosen = value[kind]
                if kind == "taxonomy" and isinstance(chosen, list):
                    return [path[-1] if isinstance(path, list) and path else path for path in chosen]
                return chosen
    # Nothing is marked, or nothing applies.
    return []
