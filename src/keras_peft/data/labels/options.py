"""Options for reading labels."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class LabelOptions:
    """Options for reading labels; those that are not set are detected.

    Attributes:
        names: Names of labels that are given by position or by number.
        separator: Separator of the labels in a cell; detected by default.
        merge_case: Whether labels that differ only in upper and lower case are one label.
        known: Labels of a trained classifier, which keep their spelling.
        decimal_comma: Whether numbers may have a decimal comma.
    """

    names: tuple[str, ...] = ()
    separator: str | None = None
    merge_case: bool = False
    known: Collection[str] = ()
    decimal_comma: bool = False
