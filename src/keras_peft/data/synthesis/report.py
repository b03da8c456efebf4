"""The plan and the result of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_peft.data.synthesis.partial_output import Tally


@dataclass(frozen=True, kw_only=True)
class GenerationPlan:
    """Plan of a run, made before the first request.

    Attributes:
        labels: Number of rows per label in the final file.
        kept: Number of rows kept from an earlier run.
        requests: Minimum number of requests for the remaining rows.
        prompt_tokens: Estimated prompt tokens of these requests, from the length of the first one.
        completion_tokens: Estimated completion tokens, from the allowed lengths of the texts.
        cost: Estimated cost at the given prices; None if no prices were given.
        url: URL that the requests are sent to.
        sends_key: Whether an API key is sent.
        prompt: Text of the first request.
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
        """Returns the plan as JSON-compatible values."""
        return {"rows": sum(self.labels.values()), **vars(self)}


@dataclass(frozen=True, kw_only=True)
class Generated:
    """Result of a run.

    Attributes:
        out: The written file.
        labels: Number of rows per label in the file.
        kept: Number of rows kept from an earlier run.
        tally: Totals over all responses, including those of earlier runs.
        cost: Cost of all tokens at the given prices; None if no prices were given, or if a response
            did not report its tokens.
        seconds: Duration of this run, in seconds.
    """

    out: Path
    labels: Mapping[str, int]
    kept: int
    tally: Tally
    cost: float | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns the result as JSON-compatible values."""
        return {
            "out": str(self.out),
            "rows": sum(self.labels.values()),
            "labels": dict(self.labels),
            "kept": self.kept,
            **vars(self.tally),
            "cost": self.cost,
            "seconds": self.seconds,
        }
