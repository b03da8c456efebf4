"""What adapters do at the layers of an encoder, as plain arrays.

Each method has one of these effects at a layer. Whatever runs an encoder without Keras needs to know only them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True, eq=False)
class Affine:
    """Scales, a low-rank product and a bias: y = layer(x ∘ i) ∘ o + x L R + b, before the activation.

    Attributes:
        input_scale: Factors i of the inputs, (in,); None for ones.
        output_scale: Factors o of the outputs, (out,); None for ones.
        left: The matrix L, (in, rank); None if there is no product.
        right: The matrix R, (rank, out).
        bias: The vector b, (out,); None for zeros.
    """

    input_scale: np.ndarray | None = None
    output_scale: np.ndarray | None = None
    left: np.ndarray | None = None
    right: np.ndarray | None = None
    bias: np.ndarray | None = None

    def around(self, inner: Affine) -> Affine:
        """Returns the effect of this one around another one at the same layer.

        Args:
            inner: The effect that acts first.
        """
        left, right, bias = inner.left, inner.right, inner.bias
        if self.input_scale is not None and left is not None:
            left = left * self.input_scale[:, None]
        if self.output_scale is not None:
            right = None if right is None else right * self.output_scale
            bias = None if bias is None else bias * self.output_scale
        if self.left is not None and self.right is not None:
            left = self.left if left is None else np.hstack([left, self.left])
            right = self.right if right is None else np.vstack([right, self.right])
        return Affine(
            _product(self.input_scale, inner.input_scale),
            _product(self.output_scale, inner.output_scale),
            left,
            right,
            _sum(bias, self.bias),
        )


@dataclass(frozen=True, eq=False)
class Bottleneck:
    """A bottleneck f(x D + d) U + u, scaled.

    Attributes:
        down: The matrix D, (dim, size).
        down_bias: The vector d, (size,).
        up: The matrix U, (size, dim).
        up_bias: The vector u, (dim,).
        activation: The function f: "gelu", "relu", "silu" or "tanh".
        scaling: Factor of the result.
        attaches_to: What it reads, and where its result is added. "output": the output of the layer, to which it is
            added. "feed-forward": the input of the block's feed-forward network, to whose output it is added.
            "last-norm": the output of the block's last norm, to whose input it is added.
    """

    down: np.ndarray
    down_bias: np.ndarray
    up: np.ndarray
    up_bias: np.ndarray
    activation: str
    scaling: float = 1.0
    attaches_to: Literal["output", "feed-forward", "last-norm"] = "output"


@dataclass(frozen=True, eq=False)
class KeysAndValues:
    """Learned keys and values before those of the text, at an attention layer.

    Attributes:
        keys: The keys, (rows, dim).
        values: The values, (rows, dim).
    """

    keys: np.ndarray
    values: np.ndarray


@dataclass(frozen=True, eq=False)
class LearnedInputs:
    """Learned vectors before the embedded text, at the token embedding; removed after the last block.

    Attributes:
        vectors: The vectors, (rows, dim).
    """

    vectors: np.ndarray


@dataclass(frozen=True, eq=False)
class PositionShift:
    """The positions of the text start at a number, at the position embedding.

    Attributes:
        start: The first position.
    """

    start: int


@dataclass(frozen=True, eq=False)
class Edit:
    """An edit of a block's outputs at the first and last tokens: y + (y W + b − y Rᵀ) R.

    Attributes:
        basis: The matrix Rᵀ with orthonormal columns, (dim, rank).
        source: The matrix W, (dim, rank).
        bias: The vector b, (rank,).
        first: Number of tokens at the start of a text.
        last: Number of tokens at the end of a text, not counting padding.
    """

    basis: np.ndarray
    source: np.ndarray
    bias: np.ndarray
    first: int
    last: int


Effect = Affine | Bottleneck | KeysAndValues | LearnedInputs | PositionShift | Edit


def _product(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    if one is None or other is None:
        return other if one is None else one
    product: np.ndarray = one * other
    return product


def _sum(one: np.ndarray | None, other: np.ndarray | None) -> np.ndarray | None:
    if one is None or other is None:
        return other if one is None else one
    total: np.ndarray = one + other
    return total
