"""A snapshot of what training changes in a model."""

from __future__ import annotations

import keras
import numpy as np

from keras_peft.core.adapted import AdaptedModel


def changing_variables(model: AdaptedModel) -> dict[str, list[keras.Variable]]:
    """Returns the variables that training changes, without those of the optimizer.

    Args:
        model: The model.

    Returns:
        The trained weights as `trained`, and random states and counts as `other`.
    """
    # Frozen variables of the base do not change, and metrics are reset in each epoch.
    still = {id(one) for one in [*model.base.variables, *model.metrics_variables]}
    still |= {id(one) for one in model.optimizer.variables}
    return {
        "trained": model.trainable_variables,
        "other": [one for one in model.variables if not one.trainable and id(one) not in still],
    }


class Snapshot:
    """The values of the variables that training changes, with those of the optimizer.

    Args:
        model: The compiled model.

    Example:
        >>> untrained = Snapshot(model)
        >>> model.fit(dataset)
        >>> untrained.restore()
    """

    def __init__(self, model: AdaptedModel) -> None:
        variables = [one for group in changing_variables(model).values() for one in group]
        variables += model.optimizer.variables
        self._values = [(one, np.array(keras.ops.convert_to_numpy(one))) for one in variables]

    def restore(self) -> None:
        """Assigns the values to the variables again."""
        for variable, value in self._values:
            variable.assign(value)
