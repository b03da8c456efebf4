"""Keras's LoRA of a kernel, written as LoRA of the matrix (in, out).

Keras factorises the kernel's last axis alone. On a kernel (in, heads, head_dim) it computes
Δ[i, h, d] = Σ_r A[i, h, r] B[r, d]: each head has columns of its own in A, and all heads share B. As a
matrix that is LoRA of rank heads × r, in which B is repeated along a diagonal of blocks. On a kernel
(heads, head_dim, out) the last axis is all that the output has, and A is only reshaped: the rank stays r.
"""

from __future__ import annotations

import math

import numpy as np

from keras_peft.core.projection import Projection


def flat_factors(a: np.ndarray, b: np.ndarray, view: Projection) -> tuple[np.ndarray, np.ndarray]:
    """Turns Keras's factors of a kernel into two of its matrix, with the same product.

    Args:
        a: The kernel's shape with the rank in place of its last axis.
        b: (rank, size of the kernel's last axis).
        view: The kernel as a matrix.

    Returns:
        A of (inputs, paths) and B of (paths, outputs). There are as many paths as values of trained
        factors can make the rank of their product, so no fewer would do in general.
    """
    rank, last = b.shape
    # Where the kernel's last axis is among the axes of the input and the output.
    place = view.order.index(len(view.order) - 1)
    ins, outs = range(view.summed), range(view.summed, len(view.order))
    is_output = place in outs
    other, own = (ins, outs) if is_output else (outs, ins)
    kept = [axis for axis in own if axis != place]
    repeats = math.prod(view.shape[axis] for axis in kept)
    wide = np.transpose(np.transpose(a, view.order), [*other, *kept, place]).reshape(-1, repeats * rank)
    blocks = np.einsum("ij,rk->irjk", np.eye(repeats, dtype=b.dtype), b)
    blocks = blocks.reshape(repeats * rank, *(view.shape[axis] for axis in kept), last)
    blocks = np.moveaxis(blocks, -1, 1 + own.index(place)).reshape(repeats * rank, -1)
    flat_a, flat_b = (wide, blocks) if is_output else (blocks.T, wide.T)
    if flat_a.shape[1] <= min(view.inputs, view.outputs):
        return flat_a, flat_b
    # More paths than a matrix of that shape can use: its own columns or rows are enough.
    product = flat_a.astype(np.float64) @ flat_b
    if view.inputs <= view.outputs:
        return np.eye(view.inputs), product
    return product, np.eye(view.outputs)
