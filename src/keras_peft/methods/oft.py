"""OFT: y = (x R) W, with R block-diagonal and orthogonal, by the Cayley transform.

Qiu et al. 2023, "Controlling Text-to-Image Diffusion by Orthogonal Finetuning",
https://arxiv.org/abs/2306.07280, section 3. Rotating the input instead of the kernel, and
the truncated series for the inverse, are from Qiu et al. 2025, "Orthogonal Finetuning Made
Scalable", https://arxiv.org/abs/2506.19847.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Weight, WeightView, option
from keras_peft.methods._matrix import MatrixMethod

if TYPE_CHECKING:
    from keras_peft.core.projection import Projection
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class OFT(MatrixMethod):
    """Rotates the inputs of a projection block by block, which preserves angles and lengths.

    With block size b, R has in / b blocks R = (I + Q)(I - Q)⁻¹, each from a skew-symmetric Q
    with b (b - 1) / 2 values above the diagonal. The values start at zero, which makes R the
    identity, so a new adapter does not change the outputs. The kernel is not read, so the
    method works on quantised bases.

    Parameters: in / b × b (b - 1) / 2 = in (b - 1) / 2 per layer.

    Args:
        block_size: Size of the blocks. If it does not divide the input size, the largest
            smaller size that does is used.
        terms: Number of terms of the series that approximates the inverse, or 0 for the
            exact inverse. The series is faster, but R is then not exactly orthogonal.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.OFT(block_size=32), layers="last:2")
    """

    name: ClassVar[str] = "oft"
    title: ClassVar[str] = "OFT"
    paper: ClassVar[str] = "Qiu et al. 2023, https://arxiv.org/abs/2306.07280"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.query", "attention.value")
    learning_rate: ClassVar[float] = 5e-3
    hugging_face: ClassVar[str | None] = "OFT"

    block_size: int = option(32, "size of the rotated blocks", minimum=2)
    terms: int = option(
        0, "number of terms of the series for the inverse; 0 for the exact inverse", minimum=0, maximum=100
    )

    def weights(self, site: Site) -> Mapping[str, Weight]:
        inputs, size = self.view(site).inputs, self._size(site)
        return {"skew": Weight((inputs // size, size * (size - 1) // 2), "zeros")}

    def multiplies(self, view: Projection) -> bool:
        from keras_peft.core.projection import LinearProjection

        return isinstance(view, LinearProjection) and view.multiplies

    def run(
        self,
        view: Projection,
        weights: WeightView,
        call: Callable[..., Any],
        inputs: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        from keras import ops

        from keras_peft.core.projection import linear_projection

        linear, size = linear_projection(view.site), self._size(view.site)
        x = linear.flatten(inputs)
        rotation = ops.cast(self._rotation(weights.exact("skew"), size), x.dtype)
        shape = ops.shape(x)
        # As (batch, positions, blocks, 1, size), so that per-row rotations broadcast as well.
        blocks = ops.reshape(x, (shape[0], -1, view.inputs // size, 1, size))
        if len(rotation.shape) == 4:
            rotation = ops.expand_dims(rotation, 1)
        rotated = ops.reshape(ops.matmul(blocks, rotation), shape)
        return call(linear.unflatten(rotated), *args, **kwargs)

    def changed(self, site: Site, weights: Any, matrix: Any) -> Any:
        from keras_peft.core.arrays import operations, reshape

        size = self._size(site)
        rotation = self._rotation(weights.skew, size)
        blocks = reshape(matrix, (-1, size, matrix.shape[-1]))
        return reshape(operations(matrix).matmul(rotation, blocks), matrix.shape)

    def _size(self, site: Site) -> int:
        inputs = self.view(site).inputs
        return next(size for size in range(min(self.block_size, inputs), 0, -1) if inputs % size == 0)

    def _rotation(self, skew: Any, size: int) -> Any:
        """Converts values (…, blocks, size (size - 1) / 2) to rotations (…, blocks, size, size)."""
        import numpy as np

        from keras_peft.core.arrays import operations, solve

        ops = operations(skew)
        place, sign = np.zeros((size, size), np.int32), np.zeros((size, size), np.float32)
        above = np.triu_indices(size, 1)
        place[above] = place.T[above] = np.arange(len(above[0]))
        sign[above], sign.T[above] = 1, -1
        q = ops.take(skew, place.reshape(-1), axis=-1)
        q = ops.reshape(q, (*ops.shape(skew)[:-1], size, size)) * sign
        one = ops.broadcast_to(ops.eye(size, dtype=q.dtype), ops.shape(q))
        if self.terms == 0:
            return solve(one - q, one + q)
        # (I + Q)(I + Q + Q² + …), truncated: the last power of Q counts once, the others twice.
        total, power = one, one
        for term in range(1, self.terms):
            power = ops.matmul(power, q)
            total = total + (power if term == self.terms - 1 and term > 1 else 2 * power)
        return total
