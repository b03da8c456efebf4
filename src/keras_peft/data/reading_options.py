"""Options for reading labelled text, which are arguments in Python and flags on the command line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

from keras_peft.data import names as column_names
from keras_peft.errors import OptionError, did_you_mean, listed
from keras_peft.options import setting

MERGES = ("case",)


@dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """Options for reading labelled text; those that are not set are detected.

    Args:
        text_column: Name of the text column, or two names separated by a comma for pairs.
        label_column: Name of the label column.
        label_columns: Names of columns with a 0 or 1 for each label, separated by commas.
        label_names: Names of labels that are given by position or number, separated by commas.
        label_separator: Separator of several labels in a cell.
        merge_labels: "case" if labels that differ only in upper and lower case are one label.
        separator: Separator of the values in a CSV or TSV file.
    """

    text_column: str | None = setting(
        None, "Column with the texts; for pairs, two columns separated by a comma.", shown="found by its name"
    )
    label_column: str | None = setting(None, "Column with the labels.", shown="found by its name")
    label_columns: str | tuple[str, ...] | None = setting(
        None,
        "Columns that contain a 0 or 1 for each label, separated by commas.",
        shown="found by their values",
    )
    label_names: str | tuple[str, ...] | None = setting(
        None,
        "Names of labels that are given by their position or number, separated by commas.",
        shown="the positions or numbers",
    )
    label_separator: str | None = setting(None, "Separator of several labels in a cell.", shown="detected")
    merge_labels: str | None = setting(
        None,
        "Merge similar labels: case merges labels that differ only in upper and lower case.",
        shown="none",
        choices=MERGES,
    )
    separator: str | None = setting(
        None, "Separator of the values in a CSV or TSV file, or tab.", shown="detected"
    )

    def __post_init__(self) -> None:
        if self.merge_labels not in (None, *MERGES):
            raise OptionError(
                f"`merge_labels={self.merge_labels!r}`: expected {' or '.join(map(repr, MERGES))}."
            )
        names = self.names
        if any(not name.strip() for name in names) or len(set(names)) < len(names):
            raise OptionError(
                f"`label_names`: expected unique, non-empty names separated by commas, got {listed(map(repr, names))}."
            )

    @classmethod
    def of(cls, values: dict[str, Any]) -> ReadingOptions:
        """Creates options from values by name.

        Args:
            values: Values by the names of the options.

        Raises:
            OptionError: If a name is unknown or a value is invalid.
        """
        known = [one.name for one in fields(cls)]
        if unknown := [name for name in values if name not in known]:
            hints = "".join(did_you_mean(name, known) for name in unknown)
            raise OptionError(
                f"Unknown option {', '.join(map(repr, unknown))}; expected one of {', '.join(known)}.{hints}"
            )
        return cls(**values)

    def to_options(self) -> dict[str, Any]:
        """Returns the options by name, without those that are not set."""
        values = {one.name: getattr(self, one.name) for one in fields(ReadingOptions)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels, if they are given."""
        return _separated(self.label_names)

    def label_columns_among(self, columns: Collection[str]) -> tuple[str, ...]:
        """Returns the names of the columns with a 0 or 1 for each label, if they are given.

        Args:
            columns: Names of all columns, in which a comma may occur.
        """
        return _separated(self.label_columns, columns)


def _separated(given: str | Sequence[str] | None, columns: Collection[str] = ()) -> tuple[str, ...]:
    if given is None:
        return ()
    return column_names.split(given, columns) if isinstance(given, str) else tuple(given)
