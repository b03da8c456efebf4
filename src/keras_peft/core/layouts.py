"""Layouts of an adapter's weights on several devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_peft.core.axis_sizes import mesh_axis_of
from keras_peft.errors import OptionError


@contextmanager
def following(shapes: Mapping[str, Sequence[int]]) -> Iterator[None]:
    """Divides new weights among devices like the layers that they act on, within the context.

    Under `keras.distribution.ModelParallel`, an entry of the layout map that matches a weight's path comes first.
    Otherwise an axis whose size is that of an axis of a layer is divided like it, and any other axis is not divided.
    Without `ModelParallel`, nothing changes.

    Args:
        shapes: The shapes of the weights by name. Sizes from `axis_sizes` are those of the layer.

    Raises:
        OptionError: If an entry of the layout map does not fit a weight.
    """
    whole = keras.distribution.distribution()
    if not isinstance(whole, keras.distribution.ModelParallel):
        yield
        return
    keras.distribution.set_distribution(_Following(whole, shapes))
    try:
        yield
    finally:
        keras.distribution.set_distribution(whole)


def gathered(value: Any) -> np.ndarray:
    """Returns a variable or tensor as an array, also if several processes hold parts of it.

    In that case, all processes must call this function, since each sends its part to the others.
    """
    tensor, distribution = keras.ops.convert_to_tensor(value), keras.distribution.distribution()
    is_here = getattr(tensor, "is_fully_addressable", True) or tensor.is_fully_replicated
    if not is_here and distribution is not None:
        layout = keras.distribution.TensorLayout([None] * len(tensor.shape), distribution.device_mesh)
        tensor = keras.distribution.distribute_tensor(tensor, layout)
    array: np.ndarray = keras.ops.convert_to_numpy(tensor)
    return array


class _Following:
    """A distribution that knows the layouts of an adapter's weights.

    Keras asks the current distribution for the layout of each new variable; `add_weight` takes none.
    """

    def __init__(self, whole: keras.distribution.ModelParallel, shapes: Mapping[str, Sequence[int]]) -> None:
        self._whole = whole
        self._shapes = shapes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._whole, name)

    def get_variable_layout(self, variable: keras.Variable) -> Any:
        """Returns the layout of a variable."""
        if variable.name not in self._shapes:
            return self._whole.get_variable_layout(variable)
        entry = self._whole.get_tensor_layout(variable.path)
        if entry is not None:
            self._refuse_unfit(entry.axes, variable)
            return entry
        axes: list[str | None] = []
        for size in self._shapes[variable.name]:
            axis = mesh_axis_of(size)
            # A mesh axis divides one axis of a weight, into equal parts.
            axes.append(axis if axis not in axes and self._divides(axis, size) else None)
        return keras.distribution.TensorLayout(axes, self._whole.device_mesh)

    def _divides(self, axis: str | None, size: int) -> bool:
        mesh = self._whole.device_mesh
        return axis is None or size % mesh.shape[mesh.axis_names.index(axis)] == 0

    def _refuse_unfit(self, axes: Sequence[str | None], variable: keras.Variable) -> None:
        shape = tuple(variable.shape)
        if len(axes) == len(shape) and all(map(self._divides, axes, shape)):
            return
        raise OptionError(
            f"The layout map gives {variable.path!r}, a weight of the adapter of shape {shape}, the layout "
            f"{tuple(axes)}, which does not divide it equally; let the pattern match the base model's weights only, "
            "or add an entry for this path."
        )
