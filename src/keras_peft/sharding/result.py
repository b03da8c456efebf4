"""The result of predicting files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PredictedFiles:
    """The result of `predict_files`.

    Attributes:
        folder: The folder with the parts, as it was given.
        parts: Names of the parts, in the order of the input.
        rows: Number of rows in all parts.
        labels: How often each label was predicted in all parts, the most frequent first; "" for rows without a label.
            Empty for tasks without labels of texts.
        found_rows: Number of rows whose parts an earlier run had written.
        seconds: Duration of this run in seconds.
    """

    folder: str
    parts: tuple[str, ...]
    rows: int
    labels: Mapping[str, int]
    found_rows: int
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain values."""
        return {
            "output": self.folder,
            "rows": self.rows,
            "parts": len(self.parts),
            "found_rows": self.found_rows,
            "seconds": round(self.seconds, 3),
            "labels": dict(self.labels),
        }
