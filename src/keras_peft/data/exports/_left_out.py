"""A row that is not used."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LeftOut:
    """A row that is not used, and why.

    Attributes:
        reason: Completes "12 rows were left out: …", such as "rejected".
    """

    reason: str
