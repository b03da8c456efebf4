"""Search spaces: which settings and options a sweep varies, and between which values."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

from keras_peft import methods
from keras_peft.core.method import Method
from keras_peft.training.settings import Settings

DEFAULT = "default"
"""A value that leaves a setting as it is by default."""


class Suggester(Protocol):
    """Chooses values, as a trial of Optuna does."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Chooses one of some values."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Chooses a number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Chooses a whole number."""


@dataclass(frozen=True)
class Parameter:
    """A setting or option that is varied.

    Attributes:
        name: Name of the setting or option.
        method: The method whose trials it belongs to; None if it is for all that have it.
        values: The values, or None if it is a range.
        low: Lowest value of a range.
        high: Highest value of a range.
        log: Whether a range is searched on a logarithmic scale.
        step: Distance between the values of a range, or None.
        whole: Whether the values of a range are whole numbers.
    """

    name: str
    method: str | None = None
    values: tuple[Any, ...] | None = None
    low: float = 0
    high: float = 0
    log: bool = False
    step: float | None = None
    whole: bool = False

    @property
    def label(self) -> str:
        """Name in the study, which is unique: the name, after the method's if it has one."""
        return self.name if self.method is None else f"{self.method}.{self.name}"

    @property
    def choices(self) -> tuple[Any, ...]:
        """The values as the study stores them: a list becomes its values, joined by commas."""
        return tuple(map(stored_form, self.values or ()))

    def suggest(self, suggester: Suggester) -> Any:
        """Returns a value that the study chooses."""
        if self.values is not None:
            chosen = suggester.suggest_categorical(self.label, self.choices)
            return self.values[_place(self.choices, chosen)]
        if self.whole:
            step = 1 if self.step is None else int(self.step)
            return suggester.suggest_int(self.label, int(self.low), int(self.high), step=step, log=self.log)
        return suggester.suggest_float(self.label, self.low, self.high, step=self.step, log=self.log)

    def stored(self, value: Any) -> Any:
        """Returns a value as the study stores it, or None if the parameter cannot have it.

        Args:
            value: The value; None stands for the default.
        """
        if self.values is not None:
            plain = DEFAULT if value is None or DEFAULT in self.choices else stored_form(value)
            place = _place(self.choices, plain)
            return None if place is None else self.choices[place]
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not self.low <= value <= self.high
        ):
            return None
        if self.step is not None and not math.isclose((value - self.low) / self.step % 1, 0, abs_tol=1e-9):
            return None
        return value

    def to_json(self) -> dict[str, Any]:
        """Returns the line of the file."""
        if self.values is not None:
            return {"values": [list(one) if isinstance(one, tuple) else one for one in self.values]}
        step = {} if self.step is None else {"step": self.step}
        return {"low": self.low, "high": self.high, **({"log": True} if self.log else {}), **step}


@dataclass(frozen=True)
class Choice:
    """What a trial trains with.

    Attributes:
        method: Name of the method.
        options: Its options that are varied.
        settings: The settings that are varied.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Returns plain values by name."""
        values = {"method": self.method, **self.options, **self.settings}
        return {name: list(one) if isinstance(one, tuple) else one for name, one in values.items()}


@dataclass(frozen=True)
class Space:
    """What a sweep varies.

    Attributes:
        source: Name of the file, for messages.
        methods: The methods to choose from; empty if the method is given.
        parameters: What is varied.
    """

    source: str
    methods: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    def of(self, method: str) -> list[Parameter]:
        """Returns the parameters of a method's trials; its own replace those for all.

        Args:
            method: Name of the method.
        """
        own = {one.name: one for one in self.parameters if one.method == method}
        options = names_of_options(method)
        shared = {
            one.name: one
            for one in self.parameters
            if one.method is None and (one.name in options or one.name in names_of_settings())
        }
        return [*{**shared, **own}.values()]

    def draw(self, suggester: Suggester, method: str, *, only: Collection[str] | None = None) -> Choice:
        """Returns what a trial trains with.

        Args:
            suggester: The trial of the study.
            method: The method, if the space does not vary it.
            only: Labels of the parameters to vary, of a trial with defaults for the rest.
        """
        if self.methods and (only is None or "method" in only):
            method = suggester.suggest_categorical("method", self.methods)
        values = {
            one.name: value
            for one in self.of(method)
            if only is None or one.label in only
            if (value := one.suggest(suggester)) != DEFAULT
        }
        options = names_of_options(method)
        return Choice(
            method,
            {name: value for name, value in values.items() if name in options},
            {name: value for name, value in values.items() if name not in options},
        )

    def defaults(self, method: Method, settings: Settings) -> dict[str, Any]:
        """Returns the default values as the study stores them, as far as the space contains them.

        Args:
            method: The method with its fixed options.
            settings: The fixed settings.

        Returns:
            Values by label.
        """
        found: dict[str, Any] = {"method": method.name} if method.name in self.methods else {}
        for one in self.of(method.name):
            value = getattr(method if one.name in names_of_options(method.name) else settings, one.name)
            if value is None:
                value = {"learning_rate": method.learning_rate, "layers": method.default_layers}.get(one.name)
            if (stored := one.stored(value)) is not None:
                found[one.label] = stored
        return found

    def to_json(self) -> dict[str, Any]:
        """Returns the content of the file."""
        content: dict[str, Any] = {one.name: one.to_json() for one in self.parameters if one.method is None}
        if self.methods:
            content["method"] = {
                name: {one.name: one.to_json() for one in self.parameters if one.method == name}
                for name in self.methods
            }
        return content


def names_of_settings() -> list[str]:
    """Returns the names of all training settings."""
    return [one.name for one in fields(Settings)]


def names_of_options(method: str) -> list[str]:
    """Returns the names of the options of a method.

    Args:
        method: Name of the method.
    """
    return [one.name for one in fields(methods.find(method))]


def stored_form(value: Any) -> Any:
    """Returns a value as the study stores it: a list as its values, joined by commas.

    Args:
        value: The value.
    """
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def _place(values: Collection[Any], value: Any) -> Any:
    """Returns where a value is, or None; true is not 1."""
    found = [
        place
        for place, one in enumerate(values)
        if one == value and isinstance(one, bool) == isinstance(value, bool)
    ]
    return found[0] if found else None
