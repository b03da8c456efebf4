"""An optimizer that gives each variable its own learning rate, and watches some.

What a method asks for belongs to its weights, so that it holds under any
optimizer that a user compiles with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

# The smoothing of sensitivity and uncertainty, as in AdaLoRA's experiments.
_SMOOTHING = 0.85


def specialise(
    optimizer: keras.optimizers.Optimizer,
    rates: Mapping[int, float],
    watched: Sequence[keras.Variable] = (),
) -> None:
    """Multiplies the learning rate of some variables, and keeps watch over some.

    Args:
        optimizer: A Keras optimizer that has not been built. It is changed in place.
        rates: What the rate is multiplied by, by the variable's `id`.
        watched: Variables for which `importance_of` shall work.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not watched and all(rate == 1 for rate in rates.values()):
        return
    kind = type(optimizer)
    is_watched = {id(variable) for variable in watched}

    class Specialised(kind):  # type: ignore[misc, valid-type]
        def build(self, variables: Sequence[keras.Variable]) -> None:
            super().build(variables)
            self.rates = {id(v): rates.get(id(v), 1.0) for v in variables}
            self.smoothed = {
                id(v): [
                    self.add_variable_from_reference(v, name=name) for name in ("sensitivity", "uncertainty")
                ]
                for v in variables
                if id(v) in is_watched
            }

        def _backend_update_step(
            self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
        ) -> None:
            pairs = list(zip(grads, trainable_variables, strict=True))
            for gradient, variable in pairs:
                if id(variable) in self.smoothed:
                    sensitivity, uncertainty = self.smoothed[id(variable)]
                    _smooth(sensitivity, uncertainty, variable, gradient)
            for rate in dict.fromkeys(self.rates[id(variable)] for _, variable in pairs):
                same = [pair for pair in pairs if self.rates[id(pair[1])] == rate]
                super()._backend_update_step(
                    [gradient for gradient, _ in same],
                    [variable for _, variable in same],
                    learning_rate * rate,
                )

    Specialised.__name__ = Specialised.__qualname__ = kind.__name__
    optimizer.__class__ = Specialised


def importance_of(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> Any:
    """Returns how much the loss depends on each value of a watched variable.

    It is the smoothed |value × gradient| times its smoothed variation: Zhang et al.
    2023, https://arxiv.org/abs/2303.10512, equations 8 to 11.
    """
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    sensitivity, uncertainty = optimizer.smoothed[id(variable)]
    return ops.convert_to_numpy(sensitivity) * ops.convert_to_numpy(uncertainty)


def _smooth(
    sensitivity: keras.Variable, uncertainty: keras.Variable, variable: keras.Variable, gradient: Any
) -> None:
    now = ops.abs(ops.multiply(variable, gradient))
    smoothed = _SMOOTHING * sensitivity + (1 - _SMOOTHING) * now
    variation = ops.abs(now - smoothed)
    uncertainty.assign(_SMOOTHING * uncertainty + (1 - _SMOOTHING) * variation)
    sensitivity.assign(smoothed)
