"""Conversion of Keras's LoRA of a kernel to LoRA of the matrix (in, out).

Keras factorises only the kernel's last axis. For a kernel (in, heads, head_dim) it computes
Δ[i, h, d] = Σ_r A[i, h, r] B[r, d]: each head has its own columns of A, and all heads share B. As a matrix,
this is LoRA of rank heads × r, in which B is repeated as the blocks of a block-diagonal matrix. For a kernel
(heads, head_dim, out) the last axis is the whole output, so A is only reshaped and the rank stays r.
"""

from __future__ import annotations

import math

import numpy as np

from keras_peft.core.projection import LinearProjection


def flat_factors(a: np.ndarray, b: np.ndarray, view: LinearProjection) -> tuple[np.ndarray, np.ndarray]:
    """Converts Keras's factors of a kernel to factors of its matrix with the same product.

    Args:
        a: A, of the kernel's shape with the rank in place of the last axis.
        b: B, (rank, size of the kernel's last axis).
        view: The kernel as a matrix.

    Returns:
        A of shape (inputs, paths) and B of shape (paths, outputs). The number of paths is the highest rank
        that the product can have, so fewer would not suffice in general.
    """
    rank, last = b.shape
    # Position of the kernel's last axis in the order of input and output axes.
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
    # The matrix has a lower maximum rank than there are paths, so the product itself becomes one factor.
    product = flat_a.astype(np.float64) @ flat_b
    if view.inputs <= view.outputs:
        return np.eye(view.inputs), product
    return product, np.eye(view.outputs)
