"""`Dense` and `EinsumDense` as a matrix.

Attention kernels have three dimensions, (in, heads, head_dim) or (heads, head_dim, out); all heads form one
axis of the matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_peft.core.arrays import reshape, transpose
from keras_peft.core.axis_sizes import axis_sizes, flattened
from keras_peft.core.batched_weights import multiply
from keras_peft.core.intercept import before_activation
from keras_peft.core.linear_layers import einsum_axes
from keras_peft.core.projection._projection import Projection
from keras_peft.core.sites import Site
from keras_peft.errors import SelectionError


class LinearProjection(Projection):
    """The matrix of a `Dense` or `EinsumDense`, quantised or not.

    Args:
        site: The site.
        order: The kernel's axes, input axes first.
        shape: The kernel's shape in that order.
        summed: Number of input axes among them.
    """

    kernel_names = ("kernel",)

    def __init__(self, site: Site, order: tuple[int, ...], shape: tuple[int, ...], summed: int) -> None:
        super().__init__(site, flattened(shape[:summed]), flattened(shape[summed:]))
        self.order, self.shape, self.summed = order, shape, summed

    def flatten(self, x: Any) -> Any:
        """Reshapes the site's input (batch, …) to (batch, …, inputs)."""
        if self.summed == 1:
            return x
        lead = ops.shape(x)[: -self.summed]
        return ops.reshape(x, (*lead, self.inputs))

    def unflatten(self, x: Any) -> Any:
        """Reshapes (batch, …, inputs) back to the site's input."""
        if self.summed == 1:
            return x
        return ops.reshape(x, (*ops.shape(x)[:-1], *self.shape[: self.summed]))

    def multiply(self, x: Any, matrix: Any) -> Any:
        return multiply(self.flatten(x), matrix)

    def matrix_from(self, kernels: Mapping[str, Any]) -> Any:
        return self.kernel_to_matrix(kernels["kernel"])

    def kernels_from(self, matrix: Any) -> dict[str, Any]:
        return {"kernel": self.matrix_to_kernel(matrix)}

    def kernel_to_matrix(self, kernel: Any) -> Any:
        """Converts a kernel to the matrix (inputs, outputs)."""
        return reshape(transpose(kernel, self.order), (self.inputs, self.outputs))

    def matrix_to_kernel(self, matrix: Any) -> Any:
        """Converts the matrix (inputs, outputs) to a kernel."""
        return transpose(reshape(matrix, self.shape), tuple(int(axis) for axis in np.argsort(self.order)))

    def matrix(self) -> Any:
        """Returns the matrix as a float32 tensor (inputs, outputs).

        The matrix of a quantised layer is obtained from its outputs for unit vectors, so it is the
        one that the layer computes with, for any quantisation scheme.
        """
        layer = self.layer
        if keras.backend.is_float_dtype(layer.kernel.dtype):
            return super().matrix()
        unit = ops.concatenate([ops.eye(self.inputs), ops.zeros((1, self.inputs))])
        # Some equations name the batch axes, so their number has to match.
        lead = (1,) * (_lead(layer) - 1)
        rows = self.unflatten(ops.reshape(unit, (*lead, self.inputs + 1, self.inputs)))
        with before_activation(layer):
            answers = type(layer).quantized_call(layer, rows)
        answers = ops.cast(ops.reshape(answers, (self.inputs + 1, self.outputs)), "float32")
        return answers[:-1] - answers[-1:]

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return self.shape[self.summed :]

    def bias(self) -> Any:
        bias = getattr(self.layer, "bias", None)
        if bias is None:
            return ops.zeros((1,))
        return ops.reshape(ops.broadcast_to(bias, self.shape[self.summed :]), (self.outputs,))

    def _flat(self, result: Any, inputs: Any) -> Any:
        lead = ops.shape(inputs)[: len(inputs.shape) - self.summed]
        return ops.reshape(result, (*lead, self.outputs))

    def _restored(self, flat: Any, result: Any) -> Any:
        return ops.reshape(flat, ops.shape(result))


def linear_projection(site: Site) -> LinearProjection:
    """Returns the matrix view of a `Dense` or `EinsumDense` site.

    Raises:
        SelectionError: If an `EinsumDense` is not a product with a single matrix.
    """
    layer = site.layer
    shape = axis_sizes(layer.kernel.shape, layer._kernel)
    if isinstance(layer, keras.layers.Dense):
        return LinearProjection(site, (0, 1), shape, 1)
    axes = einsum_axes(layer)
    if axes is None:
        raise SelectionError(
            f"{site.path} computes {layer.equation!r}, which is not a product with a single matrix; "
            "exclude this layer from the targets."
        )
    return LinearProjection(site, axes.order, tuple(shape[axis] for axis in axes.order), axes.summed)


def _lead(layer: keras.Layer) -> int:
    """Returns the number of input axes that a layer does not sum over."""
    axes = None if isinstance(layer, keras.layers.Dense) else einsum_axes(layer)
    return 2 if axes is None else axes.lead
