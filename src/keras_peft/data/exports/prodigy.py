"""Prodigy: each row has an answer, and only accepted rows count. https://prodi.gy/docs/api-interfaces"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from keras_peft.data.exports._left_out import LeftOut
from keras_peft.data.readers import Row

NAME = "Prodigy"
_REASONS = {"reject": "rejected", "ignore": "ignored"}


def recognises(rows: Sequence[Row]) -> bool:
    """Reports whether the rows have one of Prodigy's answers."""
    given = [row.get("answer") for row in rows]
    if not all(answer is None or isinstance(answer, str) for answer in given):
        return False
    answers = set(given)
    known = bool(answers & {"accept", *_REASONS}) and answers <= {"accept", *_REASONS, None}
    return known and (
        "_input_hash" in rows[0] or "_task_hash" in rows[0] or bool({"spans", "accept"} & rows[0].keys())
    )


def convert(rows: Iterable[Row]) -> Iterator[Row | LeftOut]:
    """Yields accepted rows: with the chosen options as the label, or with the marked spans."""
    for row in rows:
        answer = row.get("answer")
        if answer != "accept":
            yield LeftOut(_REASONS.get(str(answer), "not annotated"))
            continue
        plain = {
            key: value for key, value in row.items() if key not in ("tokens", "options", "accept", "answer")
        }
        if isinstance(row.get("accept"), list):
            plain["label"] = row["accept"]
        elif "spans" in row and "label" not in row:
            plain["label"] = plain.pop("spans")
        yield plain
