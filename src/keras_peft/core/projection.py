"""A projection seen as one matrix of shape (in, out), whatever its kernel's shape.

Attention keeps its kernels in three dimensions, as (in, heads, head_dim) or
(heads, head_dim, out). Papers and other libraries mean the flattened matrix,
and so does everything that is written on top of this view.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_peft.core.sites import Site
from keras_peft.errors import SelectionError


@dataclass(frozen=True)
class Projection:
    """The matrix that a `Dense` or `EinsumDense` site multiplies by.

    Attributes:
        inputs: Size of the flattened input.
        outputs: Size of the flattened output.
        flatten: Turns the site's input (batch, …) into (batch, …, inputs).
        kernel_to_matrix: Turns a kernel into the matrix (inputs, outputs).
        matrix_to_kernel: The way back.
    """

    inputs: int
    outputs: int
    flatten: Callable[[Any], Any]
    kernel_to_matrix: Callable[[np.ndarray], np.ndarray]
    matrix_to_kernel: Callable[[np.ndarray], np.ndarray]


def projection(site: Site) -> Projection:
    """Views a site as a projection.

    Args:
        site: A site whose layer is a built `Dense` or `EinsumDense`.

    Raises:
        SelectionError: If the layer is no such projection.
    """
    layer = site.layer
    if isinstance(layer, keras.layers.Dense):
        inputs, outputs = layer.kernel.shape
        return Projection(inputs, outputs, lambda x: x, lambda kernel: kernel, lambda matrix: matrix)
    if isinstance(layer, keras.layers.EinsumDense):
        return _einsum_projection(site)
    raise SelectionError(
        f"{site.path} is a {type(layer).__name__}; expected a projection (Dense or EinsumDense). "
        "Choose targets that are projections, such as 'attention.query' or 'ffn.up'."
    )


def _einsum_projection(site: Site) -> Projection:
    layer = site.layer
    left, kernel, out = _axes(layer.equation, len(layer.kernel.shape))
    summed = [axis for axis in left if axis in kernel and axis not in out]
    made = [axis for axis in out if axis in kernel and axis not in left]
    # With the summed axes last in the input and the made ones last in the output,
    # the product is a plain matrix product between reshapes.
    if (
        sorted(summed + made) != sorted(kernel)
        or left[len(left) - len(summed) :] != summed
        or out[len(out) - len(made) :] != made
    ):
        raise SelectionError(
            f"{site.path} computes {layer.equation!r}, which is not a product with one matrix; "
            "leave this layer out of the targets."
        )
    shape = dict(zip(kernel, layer.kernel.shape, strict=True))
    order = [kernel.index(axis) for axis in summed + made]
    ordered = tuple(layer.kernel.shape[position] for position in order)
    inputs = math.prod(shape[axis] for axis in summed)
    outputs = math.prod(shape[axis] for axis in made)

    def flatten(x: Any) -> Any:
        if len(summed) == 1:
            return x
        lead = keras.ops.shape(x)[: -len(summed)]
        return keras.ops.reshape(x, (*lead, inputs))

    return Projection(
        inputs,
        outputs,
        flatten,
        lambda kernel: np.transpose(kernel, order).reshape(inputs, outputs),
        lambda matrix: np.transpose(matrix.reshape(ordered), np.argsort(order)),
    )


def _axes(equation: str, kernel_rank: int) -> tuple[list[str], list[str], list[str]]:
    """Splits "abc,cde->abde" into its three lists of axes, with "..." as one axis."""
    left, right = equation.replace(" ", "").split(",")
    kernel, out = right.split("->")
    parts = [list(part.replace("...", ".")) for part in (left, kernel, out)]
    if len(parts[1]) != kernel_rank:  # An ellipsis in the kernel hides its axes.
        parts[1] = ["?"] * kernel_rank
    return parts[0], parts[1], parts[2]
