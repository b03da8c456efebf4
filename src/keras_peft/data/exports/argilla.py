"""Argilla: records with the responses of annotators, of versions 1 and 2, nested or as columns of a dataset.

https://docs.argilla.io/latest/how_to_guides/import_export/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from keras_peft.data.exports._left_out import LeftOut
from keras_peft.data.readers import Row

NAME = "Argilla"
# Records in which the questions are looked for.
_LOOKED_AT = 4096
_STATUS = {
    "Discarded": "discarded",
    "Default": "not annotated",
    "discarded": "discarded",
    "draft": "not submitted",
}


def recognises(rows: Sequence[Row]) -> bool:
    """Reports whether the rows are records of one of the versions."""
    first = rows[0]
    nested = isinstance(first.get("fields"), dict) and "responses" in first
    old = "annotation" in first and "prediction" in first and "status" in first
    return nested or old or bool(_questions(first))


def convert(rows: Iterable[Row]) -> Iterator[Row | LeftOut]:
    """Yields the records that annotators agree on; of several questions, each becomes a column."""
    iterator = iter(rows)
    first = list(islice(iterator, _LOOKED_AT))
    questions = {question for row in first for question in _responses(row)}
    for row in chain(first, iterator):
        if isinstance(row.get("fields"), dict):
            yield _nested(row, questions)
        elif "annotation" in row:
            yield _old(row)
        else:
            yield _flat(row)


def _responses(row: Row) -> dict[str, list[dict[str, Any]]]:
    """Returns the responses of a nested record by question."""
    responses = row.get("responses") or {}
    if isinstance(responses, list):  # Before version 2: {"values": {question: {"value": …}}, "status": …}
        by_question: dict[str, list[dict[str, Any]]] = {}
        for one in filter(_is_object, responses):
            values = one.get("values")
            for question, value in (values if _is_object(values) else {}).items():
                if _is_object(value):
                    by_question.setdefault(question, []).append({**value, "status": one.get("status")})
        return by_question
    return responses if isinstance(responses, dict) else {}


def _nested(row: Row, questions: set[str]) -> Row | LeftOut:
    plain, responses = dict(row["fields"]), _responses(row)
    if "text" not in plain and len(plain) == 1:
        plain = {"text": next(iter(plain.values()))}
    for question, given in responses.items():
        answers = [(one.get("value"), one.get("status")) for one in filter(_is_object, _listed(given))]
        label = _agreed(answers)
        if isinstance(label, LeftOut):
            return label
        plain["label" if len(questions) == 1 else question] = label
    return plain if responses else LeftOut("not annotated")


def _old(row: Row) -> Row | LeftOut:
    status = row.get("status")
    if isinstance(status, str) and status in _STATUS:
        return LeftOut(_STATUS[status])
    inputs = row.get("inputs")
    text = row.get("text") or (inputs.get("text") if isinstance(inputs, dict) else None)
    return {"text": text, "label": row["annotation"]}


def _questions(row: Row) -> list[str]:
    """Returns the questions of a record as columns: `q.responses` and `q.responses.status`."""
    ends = ".responses.status"
    return [name.removesuffix(ends) for name in row if name.endswith(ends)]


def _flat(row: Row) -> Row | LeftOut:
    questions = _questions(row)
    plain = {name: value for name, value in row.items() if "." not in name and name not in ("id", "status")}
    for question in questions:
        values, states = row.get(f"{question}.responses"), row.get(f"{question}.responses.status")
        label = _agreed(list(zip(_listed(values), _listed(states), strict=False)))
        if isinstance(label, LeftOut):
            return label
        plain["label" if len(questions) == 1 else question] = label
    return plain


def _agreed(answers: list[tuple[Any, Any]]) -> Any:
    """Returns the answer that all annotators gave, or why there is none."""
    submitted = [value for value, status in answers if status in ("submitted", None)]
    if not submitted:
        states = {str(status) for _, status in answers}
        return LeftOut(_STATUS.get(states.pop(), "not annotated") if len(states) == 1 else "not annotated")
    if any(_comparable(value) != _comparable(submitted[0]) for value in submitted):
        return LeftOut("annotated differently by several people")
    return submitted[0]


def _comparable(value: Any) -> Any:
    """Returns an answer without the order in which an annotator chose labels."""
    return sorted(map(str, value)) if isinstance(value, list) else value


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _listed(value: Any) -> list[Any]:
    """Returns a list, also for a value of another type, which no version writes."""
    return value if isinstance(value, list) else []
