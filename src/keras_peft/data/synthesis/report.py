"""What a run would do, and what it made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_peft.data.synthesis.partial_output import Tally


@dataclass(frozen=True, kw_only=True)
class GenerationPlan:
    """What a run would do, told before the first request.

    Attributes:
        labels: Rows of each label in the file at the end.
        kept: How many of them are there from an earlier run.
        requests: Least requests for the others.
        prompt_tokens: Tokens that those would read, estimated from the first one's length.
        completion_tokens: Tokens that they would write, estimated from the lengths allowed.
        cost: What that costs at the given prices; None where none were given.
        url: Where the requests go.
        sends_key: Whether a key goes with them.
        prompt: The text of the first request.
    """

    labels: Mapping[str, int]
    kept: int
    requests: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    url: str
    sends_key: bool
    prompt: str

    def to_json(self) -> dict[str, Any]:
        """Returns the plan as JSON."""
        return {"rows": sum(self.labels.values()), **vars(self)}


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What a run made.

    Attributes:
        out: The file.
        labels: Rows of each label in it.
        kept: How many of them were there from an earlier run.
        tally: What all answers came to, those of earlier runs included.
        cost: What their tokens cost at the given prices; None where none were given, or an
            answer did not tell its tokens.
        seconds: How long this run took.
    """

    out: Path
    labels: Mapping[str, int]
    kept: int
    tally: Tally
    cost: float | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns what was made as JSON."""
        return {
            "out": str(self.out),
            "rows": sum(self.labels.values()),
            "labels": dict(self.labels),
            "kept": self.kept,
            **vars(self.tally),
            "cost": self.cost,
            "seconds": self.seconds,
        }
