"""A projection as a matrix of shape (in, out), independent of its kernel's shape.

Attention kernels have three dimensions, (in, heads, head_dim) or (heads, head_dim, out). Papers and
other libraries use the flattened matrix, and so does all code that builds on this module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_peft.core.intercept import before_activation
from keras_peft.core.sites import Site
from keras_peft.errors import SelectionError


@dataclass(frozen=True)
class Projection:
    """The matrix of a `Dense` or `EinsumDense` site.

    Attributes:
        inputs: Size of the flattened input.
        outputs: Size of the flattened output.
        order: The kernel's axes, input axes first.
        shape: The kernel's shape in that order.
        summed: Number of input axes among them.
    """

    inputs: int
    outputs: int
    order: tuple[int, ...]
    shape: tuple[int, ...]
    summed: int

    def flatten(self, x: Any) -> Any:
        """Reshapes the site's input (batch, …) to (batch, …, inputs)."""
        if self.summed == 1:
            return x
        lead = keras.ops.shape(x)[: -self.summed]
        return keras.ops.reshape(x, (*lead, self.inputs))

    def unflatten(self, x: Any) -> Any:
        """Reshapes (batch, …, inputs) back to the site's input."""
        if self.summed == 1:
            return x
        return keras.ops.reshape(x, (*keras.ops.shape(x)[:-1], *self.shape[: self.summed]))

    def kernel_to_matrix(self, kernel: np.ndarray) -> np.ndarray:
        """Converts a kernel to the matrix (inputs, outputs)."""
        return np.transpose(kernel, self.order).reshape(self.inputs, self.outputs)

    def matrix_to_kernel(self, matrix: np.ndarray) -> np.ndarray:
        """Converts the matrix (inputs, outputs) to a kernel."""
        return np.transpose(matrix.reshape(self.shape), np.argsort(self.order))


def projection(site: Site) -> Projection:
    """Returns the matrix view of a site.

    Args:
        site: A site whose layer is a built `Dense` or `EinsumDense`, quantised or not.

    Raises:
        SelectionError: If the layer is not such a projection.
    """
    layer = site.layer
    if isinstance(layer, keras.layers.Dense):
        inputs, outputs = layer.kernel.shape
        return Projection(inputs, outputs, (0, 1), (inputs, outputs), 1)
    if isinstance(layer, keras.layers.EinsumDense):
        return _einsum_projection(site)
    raise SelectionError(
        f"{site.path} is a {type(layer).__name__}; expected a projection (Dense or EinsumDense). "
        "Choose targets that are projections, such as 'attention.query' or 'ffn.up'."
    )


def is_projection(site: Site) -> bool:
    """Returns whether a site's layer is a `Dense` or `EinsumDense`."""
    return isinstance(site.layer, keras.layers.Dense | keras.layers.EinsumDense)


def matrix_of(site: Site) -> Any:
    """Returns the matrix of a projection as a float32 tensor (inputs, outputs).

    The matrix of a quantised layer is obtained from its outputs for unit vectors, so it is the
    one that the layer computes with, for any quantisation scheme.
    """
    layer, view = site.layer, projection(site)
    if keras.backend.is_float_dtype(layer.kernel.dtype):
        kernel = keras.ops.transpose(keras.ops.cast(layer.kernel, "float32"), view.order)
        return keras.ops.reshape(kernel, (view.inputs, view.outputs))
    unit = keras.ops.concatenate([keras.ops.eye(view.inputs), keras.ops.zeros((1, view.inputs))])
    # Some equations name the batch axes, so their number has to match.
    lead = (1,) * (_lead(layer) - 1)
    rows = view.unflatten(keras.ops.reshape(unit, (*lead, view.inputs + 1, view.inputs)))
    with before_activation(layer):
        answers = type(layer).quantized_call(layer, rows)
    answers = keras.ops.cast(keras.ops.reshape(answers, (view.inputs + 1, view.outputs)), "float32")
    return answers[:-1] - answers[-1:]


def run(
    site: Site, call: Callable[..., Any], change: Callable[[Any], Any], inputs: Any, *args: Any, **kwargs: Any
) -> Any:
    """Runs a projection and modifies its outputs before the activation.

    Args:
        site: The projection.
        call: The call below.
        change: Maps the flattened outputs (batch, …, outputs) to new ones of the same shape.
        inputs: The site's input.
        args: Further positional arguments of the call.
        kwargs: Keyword arguments of the call.
    """
    with before_activation(site.layer) as activation:
        outputs = call(inputs, *args, **kwargs)
    shape = keras.ops.shape(outputs)
    lead = keras.ops.shape(inputs)[: len(inputs.shape) - projection(site).summed]
    flat = keras.ops.reshape(outputs, (*lead, projection(site).outputs))
    changed = keras.ops.cast(change(flat), outputs.dtype)
    return activation(keras.ops.reshape(changed, shape))


def bias_of(site: Site) -> Any:
    """Returns a projection's bias of shape (outputs,), or a single 0 if it has none."""
    bias = getattr(site.layer, "bias", None)
    if bias is None:
        return keras.ops.zeros((1,))
    view = projection(site)
    return keras.ops.reshape(keras.ops.broadcast_to(bias, view.shape[view.summed :]), (view.outputs,))


def _lead(layer: keras.Layer) -> int:
    """Returns the number of input axes that a layer does not sum over."""
    if isinstance(layer, keras.layers.Dense):
        return 2
    left, kernel, out = _axes(layer.equation, len(layer.kernel.shape))
    return len([axis for axis in left if not (axis in kernel and axis not in out)])


def _einsum_projection(site: Site) -> Projection:
    layer = site.layer
    left, kernel, out = _axes(layer.equation, len(layer.kernel.shape))
    summed = [axis for axis in left if axis in kernel and axis not in out]
    made = [axis for axis in out if axis in kernel and axis not in left]
    # If the summed axes are last in the input and the new axes last in the output, the product
    # is a plain matrix product between reshapes.
    if (
        sorted(summed + made) != sorted(kernel)
        or left[len(left) - len(summed) :] != summed
        or out[len(out) - len(made) :] != made
    ):
        raise SelectionError(
            f"{site.path} computes {layer.equation!r}, which is not a product with a single matrix; "
            "exclude this layer from the targets."
        )
    sizes = dict(zip(kernel, layer.kernel.shape, strict=True))
    return Projection(
        inputs=math.prod(sizes[axis] for axis in summed),
        outputs=math.prod(sizes[axis] for axis in made),
        order=tuple(kernel.index(axis) for axis in summed + made),
        shape=tuple(sizes[axis] for axis in summed + made),
        summed=len(summed),
    )


def _axes(equation: str, kernel_rank: int) -> tuple[list[str], list[str], list[str]]:
    """Splits "abc,cde->abde" into its three lists of axes, with "..." as one axis."""
    left, right = equation.replace(" ", "").split(",")
    kernel, out = right.split("->")
    parts = [list(part.replace("...", ".")) for part in (left, kernel, out)]
    if len(parts[1]) != kernel_rank:  # An ellipsis hides the kernel's axes.
        parts[1] = ["?"] * kernel_rank
    return parts[0], parts[1], parts[2]
