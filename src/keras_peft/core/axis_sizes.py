"""Sizes of the axes of a layer's variables, which remember how devices share these axes.

`keras.distribution.ModelParallel` divides the variables of a base among the devices of a mesh. A weight of an
adapter should be divided in the same places as the layer it acts on. Its shape says where these are: an axis that
belongs to the layer has the layer's own size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


class AxisSize(int):
    """The size of an axis that devices share.

    Arithmetic returns plain integers, because a part or a multiple of an axis is not divided in the same places.

    Attributes:
        mesh_axis: The axis of the device mesh that divides it.
    """

    mesh_axis: str


def axis_sizes(shape: Sequence[int], variable: Any) -> tuple[int, ...]:
    """Returns a shape whose sizes remember how the devices of `ModelParallel` share them.

    Args:
        shape: The shape of a layer's matrix, table or vector.
        variable: The Keras variable that holds it, perhaps packed, or None.
    """
    import keras

    distribution = keras.distribution.distribution()
    if not isinstance(distribution, keras.distribution.ModelParallel) or variable is None:
        return tuple(shape)
    if len(variable.shape) != len(shape):  # Several integers packed in one byte have their own axes.
        return tuple(shape)
    axes = getattr(distribution.get_variable_layout(variable), "axes", ())
    return tuple(map(_divided, shape, [*axes, *[None] * (len(shape) - len(axes))]))


def mesh_axis_of(size: int) -> str | None:
    """Returns the axis of the device mesh that divides an axis of this size, or None."""
    return size.mesh_axis if isinstance(size, AxisSize) else None


def flattened(sizes: Sequence[int]) -> int:
    """Returns the size of one axis made of several.

    It is divided as the first of them. Devices that share another one, such as the width of each head, hold
    values from all parts of the flat axis, for which there is no layout.

    Args:
        sizes: The sizes, outermost axis first.
    """
    return _divided(math.prod(sizes), mesh_axis_of(next((one for one in sizes if one > 1), 1)))


def _divided(size: int, mesh_axis: str | None) -> int:
    if mesh_axis is None:
        return size
    divided = AxisSize(size)
    divided.mesh_axis = mesh_axis
    return divided
