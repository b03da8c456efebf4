"""Results of the checks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

_WIDTH = 90


@dataclass(frozen=True)
class Finding:
    """A problem, or a fact worth knowing.

    Attributes:
        title: Description of the finding, with its count.
        advice: Recommended next step.
        rows: Row numbers, counted from 1.
        samples: Examples, for display.
    """

    title: str
    advice: str
    rows: tuple[int, ...] = ()
    samples: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns `{"title", "advice", "rows", "samples"}`."""
        return {
            "title": self.title,
            "advice": self.advice,
            "rows": list(self.rows),
            "samples": list(self.samples),
        }


@dataclass(frozen=True)
class Checked:
    """Result of one check.

    Attributes:
        name: Name of the check.
        findings: Findings of the check.
        facts: Statistics of the check, as JSON-compatible values.
    """

    name: str
    findings: tuple[Finding, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DataReport:
    """Result of `check_data`.

    Attributes:
        source: Name of the checked data.
        reading: How the data was read, in one line.
        rows: Number of rows.
        text_form: "text", "pair" or "tokens".
        label_form: "label", "labels", "tags" or "number".
        checks: Result of each check.
    """

    source: str
    reading: str
    rows: int
    text_form: str
    label_form: str
    checks: tuple[Checked, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Findings of all checks."""
        return tuple(finding for checked in self.checks for finding in checked.findings)

    def facts(self, name: str) -> dict[str, Any]:
        """Returns the statistics of a check.

        Args:
            name: Name of the check.
        """
        return next(checked.facts for checked in self.checks if checked.name == name)

    def to_json(self) -> dict[str, Any]:
        """Returns the report as JSON-compatible values, with all row numbers."""
        return {
            "source": self.source,
            "reading": self.reading,
            "rows": self.rows,
            "text_form": self.text_form,
            "label_form": self.label_form,
            "checks": {
                checked.name: {
                    "findings": [finding.to_json() for finding in checked.findings],
                    **checked.facts,
                }
                for checked in self.checks
            },
        }


def counted(count: int, one: str, many: str) -> str:
    """Formats a count: "1 row has …" or "2,000 rows have …"."""
    return f"{count:,} {one if count == 1 else many}"


def shortened(text: str) -> str:
    """Returns a text on one short line, with unprintable characters escaped."""
    line = re.sub(r"[ \t\r\n]+", " ", text).strip(" ")
    line = line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in line)


def sample(texts: Sequence[str], positions: Iterable[int], *, most: int = 3) -> tuple[str, ...]:
    """Formats the first of some rows as "row 3: text"."""
    return tuple(f"row {place + 1}: {shortened(texts[place])}" for place in list(positions)[:most])
