"""The parameters of a sweep as the axes of charts."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_peft.sweeping.result import value_in_words
from keras_peft.sweeping.space import DEFAULT


@dataclass(frozen=True)
class Axis:
    """A parameter, or the score, as a scale from 0 to 1.

    Attributes:
        name: Name for display.
        key: Label of the parameter; empty for the score.
        marks: Position and label of each mark.
        places: Position of each trial by its number; a trial without this parameter has none.
    """

    name: str
    key: str
    marks: tuple[tuple[float, str], ...]
    places: Mapping[int, float]


def varied(space: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the label and the line of each parameter; of the method first.

    Args:
        space: The space, as in sweep.json.
    """
    own = space.get("method", {})
    found: list[tuple[str, Mapping[str, Any]]] = [("method", {"values": list(own)})] if own else []
    found += [(label, line) for label, line in space.items() if label != "method"]
    found += [(f"{name}.{label}", line) for name, lines in own.items() for label, line in lines.items()]
    return found


def axis_of(label: str, line: Mapping[str, Any], trials: Sequence[Mapping[str, Any]]) -> Axis:
    """Returns the scale of a parameter, with the values of the trials.

    Args:
        label: Label of the parameter.
        line: Its line of the space.
        trials: Entries of sweep.json.
    """
    values = {one["trial"]: value for one in trials if (value := _value(one, label, line)) is not None}
    name = label.replace("_", " ").replace(".", ": ")
    if "values" in line:
        choices = [_hashable(one) for one in line["values"]]
        # A default may be a value that the space does not have.
        choices += sorted({_hashable(one) for one in values.values()} - set(choices), key=str)
        place = {one: (number + 0.5) / len(choices) for number, one in enumerate(choices)}
        marks = tuple((place[one], _mark(one)) for one in choices)
        return Axis(name, label, marks, {trial: place[_hashable(one)] for trial, one in values.items()})
    numbers = [value for value in values.values() if isinstance(value, int | float)]
    low, high = min([line["low"], *numbers]), max([line["high"], *numbers])
    scale = math.log if line.get("log") else float

    def at(value: float) -> float:
        return (scale(value) - scale(low)) / (scale(high) - scale(low))

    found = _powers(low, high) if line.get("log") else [low, (low + high) / 2, high]
    marks = tuple((at(one), value_in_words(float(one))) for one in found)
    return Axis(name, label, marks, {trial: at(one) for trial, one in values.items()})


def _value(trial: Mapping[str, Any], label: str, line: Mapping[str, Any]) -> Any:
    """Returns a trial's value of a parameter; None if it does not have it."""
    method, _, name = label.rpartition(".")
    settings = trial["settings"]
    if method and settings["method"] != method:
        return None
    if name in settings:
        return settings[name]
    return DEFAULT if DEFAULT in line.get("values", ()) else None


def _mark(value: Any) -> str:
    """Returns a value as the axis shows it; of roles such as `attention.query`, only the last part."""
    if isinstance(value, tuple):
        return "+".join(str(one).rpartition(".")[2] for one in value)
    return value_in_words(value)


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _powers(low: float, high: float) -> list[float]:
    """Returns round numbers in a range on a logarithmic scale; its ends if there are none."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1,), (1, 3), (1, 2, 5)):
        found = [factor * 10.0**power for power in powers for factor in factors]
        inside = [one for one in found if low * 0.999 <= one <= high * 1.001]
        if len(inside) >= 3:
            return inside
    return [low, math.sqrt(low * high), high]
