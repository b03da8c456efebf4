"""Layers that multiply by a single matrix: `Dense`, and `EinsumDense` with most equations."""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class EinsumAxes:
    """The axes of an `EinsumDense`'s kernel by their role in a product with a single matrix.

    Attributes:
        order: The kernel's axes, input axes first.
        summed: Number of input axes among them.
        lead: Number of axes of the input that the layer does not sum over.
    """

    order: tuple[int, ...]
    summed: int
    lead: int


def is_linear(layer: keras.Layer) -> bool:
    """Returns whether a layer is a `Dense` or `EinsumDense`."""
    return isinstance(layer, keras.layers.Dense | keras.layers.EinsumDense)


def multiplies_by_matrix(layer: keras.Layer) -> bool:
    """Returns whether a layer's output is a product with a single matrix, apart from bias and activation."""
    return isinstance(layer, keras.layers.Dense) or (is_linear(layer) and einsum_axes(layer) is not None)


def einsum_axes(layer: keras.layers.EinsumDense) -> EinsumAxes | None:
    """Returns the axes of a layer's kernel, or None if it computes anything but a product with a matrix."""
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
        return None
    return EinsumAxes(
        order=tuple(kernel.index(axis) for axis in summed + made),
        summed=len(summed),
        lead=len(left) - len(summed),
    )


def _axes(equation: str, kernel_rank: int) -> tuple[list[str], list[str], list[str]]:
    """Splits "abc,cde->abde" into its three lists of axes, with "..." as one axis."""
    left, right = equation.replace(" ", "").split(",")
    kernel, out = right.split("->")
    parts = [list(part.replace("...", ".")) for part in (left, kernel, out)]
    if len(parts[1]) != kernel_rank:  # An ellipsis hides the kernel's axes.
        parts[1] = ["?"] * kernel_rank
    return parts[0], parts[1], parts[2]
