"""The result of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from keras_peft.tasks import metric_name


@dataclass(frozen=True, repr=False)
class Sweep:
    """The result of `sweep`.

    Attributes:
        folder: The folder with the bundle `best`, the page `index.html` and the journal of the trials.
        report: Content of its sweep.json: the trials, the best one and the one with the defaults.
    """

    folder: Path
    report: dict[str, Any]

    @property
    def best(self) -> dict[str, Any]:
        """The trial with the highest score: its settings, scores and duration."""
        best: dict[str, Any] = self.report["best"]
        return best

    @property
    def bundle(self) -> Path:
        """The bundle that was trained with the best settings."""
        return self.folder / "best"

    def __repr__(self) -> str:
        best, defaults = self.report["best"], self.report["defaults"]
        score = "" if defaults["score"] is None else f", defaults {defaults['score']:.3f}"
        return (
            f"Sweep({self.folder}: {len(self.report['trials'])} trials, best {metric_name(self.report['metric'])} "
            f"{best['score']:.3f}{score}; {in_words(best['settings'])})"
        )

    def _repr_html_(self) -> str:
        """Returns a table of the best trials, for notebooks."""
        rows = "".join(
            f"<tr><td>{one['trial']}</td><td>{one['score']:.3f}</td><td>{escape(in_words(one['settings']))}</td></tr>"
            for one in ranked(self.report["trials"])[:10]
        )
        name = escape(metric_name(self.report["metric"]))
        return (
            f"<p><b>{escape(str(self.folder))}</b> · {len(self.report['trials'])} trials</p>"
            f"<table><thead><tr><th>trial</th><th>{name}</th><th>settings</th></tr></thead><tbody>{rows}</tbody></table>"
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the content of sweep.json."""
        return {"folder": str(self.folder), **self.report}


def ranked(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the trials with a score, the best first; of equal ones, the earlier.

    Args:
        trials: Entries of sweep.json.
    """
    return sorted((one for one in trials if one["score"] is not None), key=lambda one: -one["score"])


def in_words(settings: Mapping[str, Any]) -> str:
    """Returns settings in one line.

    Args:
        settings: Values by name.

    Example:
        >>> in_words({"method": "lora", "rank": 8, "learning_rate": 0.00213})
        'lora, rank 8, learning rate 0.00213'
    """
    parts = [
        value_in_words(value) if name == "method" else f"{name.replace('_', ' ')} {value_in_words(value)}"
        for name, value in settings.items()
    ]
    return ", ".join(parts)


def value_in_words(value: Any) -> str:
    """Returns a value of a setting as it is shown.

    Args:
        value: The value.

    Example:
        >>> value_in_words(["attention.query", "attention.value", "ffn.up"])
        'attention.query+value+ffn.up'
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:.3g}"
    if not isinstance(value, list | tuple):
        return str(value)
    parts, before = [], ""
    for one in map(str, value):
        place, _, last = one.rpartition(".")
        parts.append(last if place and place == before else one)
        before = place
    return "+".join(parts)
