"""An optimizer with a learning rate per variable that can also track importance.

The multipliers that a method requests belong to its weights, so they apply with any optimizer that a
user compiles with.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import ops

from keras_peft.core.layouts import gathered
from keras_peft.core.site_weights import SiteWeights
from keras_peft.errors import OptionError, listed

# Smoothing factor of sensitivity and uncertainty, from AdaLoRA's experiments.
_SMOOTHING = 0.85


def rates_of(
    variables: Mapping[str, keras.Variable], site_weights: Iterable[SiteWeights], rates: Mapping[str, float]
) -> dict[int, float]:
    """Returns the learning rate multiplier of each weight, by the weight's id.

    Args:
        variables: The trainable variables by their keys in an adapter file.
        site_weights: The weights at the base's sites; their methods have their own multipliers.
        rates: Multipliers by key prefix. The longest matching prefix applies.

    Raises:
        OptionError: If a prefix matches no key.
    """
    if unknown := [start for start in rates if not any(key.startswith(start) for key in variables)]:
        raise OptionError(
            f"`rates`: no weight's key starts with {listed(map(repr, unknown))}; the keys are "
            f"{listed(variables, most=4)}."
        )
    multiples = {id(variable): _rate(key, rates) for key, variable in variables.items()}
    for one in site_weights:
        for key, multiple in one.method.rates().items():
            if id(one.values[key]) in multiples:  # Weights of a frozen model are not among them.
                multiples[id(one.values[key])] *= multiple
    return multiples


def _rate(key: str, rates: Mapping[str, float]) -> float:
    fitting = [beginning for beginning in rates if key.startswith(beginning)]
    return rates[max(fitting, key=len)] if fitting else 1.0


def specialise(
    optimizer: keras.optimizers.Optimizer,
    rates: Mapping[int, float],
    watched: Sequence[keras.Variable] = (),
) -> None:
    """Sets learning rate multipliers per variable, which also scale weight decay, and tracks importance.

    Args:
        optimizer: A Keras optimizer that is not built. It is modified in place.
        rates: Multipliers by the variable's `id`.
        watched: Variables to track for `importance_of`.

    Raises:
        OptionError: If the optimizer is already built.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    kind = getattr(type(optimizer), "unspecialised", type(optimizer))
    if not watched and all(rate == 1 for rate in rates.values()):
        optimizer.__class__ = kind
        return
    if optimizer.built:
        raise OptionError(
            f"The optimizer {optimizer.name!r} has already trained, but per-weight learning rates "
            "must be set before that; compile with a new one."
        )
    is_watched = {id(variable) for variable in watched}

    class Specialised(kind):  # type: ignore[misc, valid-type]
        unspecialised = kind

        def build(self, variables: Sequence[keras.Variable]) -> None:
            super().build(variables)
            self.rates = [rates.get(id(variable), 1.0) for variable in variables]
            self.smoothed = {
                place: [
                    self.add_variable_from_reference(variable, name=name)
                    for name in ("sensitivity", "uncertainty")
                ]
                for place, variable in enumerate(variables)
                if id(variable) in is_watched
            }

        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            place = self._get_variable_index(variable)
            if place in self.smoothed:
                sensitivity, uncertainty = self.smoothed[place]
                _smooth(sensitivity, uncertainty, variable, gradient)
            super().update_step(gradient, variable, learning_rate * self.rates[place])

        def _apply_weight_decay(self, variables: Sequence[keras.Variable]) -> None:
            # Weight decay scales with the learning rate, so with each variable's own.
            whole = getattr(self, "weight_decay", None)
            if whole is None:
                return
            groups: dict[float, list[keras.Variable]] = {}
            for variable in filter(self._use_weight_decay, variables):
                groups.setdefault(self.rates[self._get_variable_index(variable)], []).append(variable)
            try:
                for rate, group in groups.items():
                    self.weight_decay = whole * rate
                    super()._apply_weight_decay(group)
            finally:
                self.weight_decay = whole

    if keras.config.backend() == "torch":  # Its optimizers otherwise update all variables at once.
        Specialised._backend_update_step = keras.optimizers.Optimizer._backend_update_step
    Specialised.__name__ = Specialised.__qualname__ = kind.__name__
    optimizer.__class__ = Specialised


@contextmanager
def unspecialised(optimizer: keras.optimizers.Optimizer | None) -> Iterator[None]:
    """Gives a specialised optimizer its original class within the context, so that it can be serialised."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    before: Any = type(optimizer)
    if hasattr(before, "unspecialised"):
        optimizer.__class__ = before.unspecialised
    try:
        yield
    finally:
        if hasattr(before, "unspecialised"):
            optimizer.__class__ = before


def importance_of(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> Any:
    """Returns the importance for the loss of each value of a tracked variable.

    It is the product of smoothed sensitivity |value × gradient| and its smoothed variation: Zhang et al.
    2023, https://arxiv.org/abs/2303.10512, equations 8 to 11.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    sensitivity, uncertainty = optimizer.smoothed[optimizer._get_variable_index(variable)]
    return gathered(sensitivity) * gathered(uncertainty)


def _smooth(
    sensitivity: keras.Variable, uncertainty: keras.Variable, variable: keras.Variable, gradient: Any
) -> None:
    now = ops.abs(ops.multiply(ops.convert_to_tensor(variable), gradient))
    smoothed = _SMOOTHING * sensitivity + (1 - _SMOOTHING) * now
    variation = ops.abs(now - smoothed)
    uncertainty.assign(_SMOOTHING * uncertainty + (1 - _SMOOTHING) * variation)
    sensitivity.assign(smoothed)
