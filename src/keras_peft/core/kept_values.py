"""Values of a model that survive a failure of Keras on JAX."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras


@contextmanager
def kept_values(model: keras.Model) -> Iterator[None]:
    """Puts the values of a model's variables back if Keras fails within the context.

    On JAX, Keras takes the values from the variables before the first batch. If this batch cannot be read or divided
    among devices, it does not put them back, and the model has no weights.

    Args:
        model: A model that is trained, evaluated or asked for predictions within the context.
    """
    if keras.config.backend() != "jax":
        yield
        return
    optimizer = getattr(model, "optimizer", None)
    variables = [*model.variables, *model.metrics_variables, *getattr(optimizer, "variables", [])]
    before = [(variable, variable.value) for variable in variables]
    try:
        yield
    except BaseException:
        model.jax_state_sync()  # what later batches have made of them
        for variable, value in before:
            if variable._value is None:
                variable.assign(value)
        raise
