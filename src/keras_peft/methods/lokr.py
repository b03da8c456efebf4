"""LoKr: y = x (W + s K ⊗ (A B)), with ⊗ the Kronecker product and s = alpha / rank.

Yeh et al. 2023, "Navigating Text-To-Image Customization: From LyCORIS Fine-Tuning to
Model Evaluation", https://arxiv.org/abs/2309.14859, section 4.2; the same idea as KronA,
Edalati et al. 2022, https://arxiv.org/abs/2212.10650.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Weight, WeightView, option
from keras_peft.methods._matrix import MatrixMethod

if TYPE_CHECKING:
    from keras_peft.core.projection import Projection
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class LoKr(MatrixMethod):
    """Adds the Kronecker product of a small matrix and a larger, low-rank matrix.

    With in = i1 × i2 and out = o1 × o2 split near their square roots, K is (i1, o1), A is
    (i2, rank) and B is (rank, o2). If the rank is at least half of the larger of i2 and o2,
    one full matrix C of shape (i2, o2) replaces A B. K starts at zero, so a new adapter does
    not change the outputs; the others start with uniform random values. The product is never
    materialised: x is reshaped to an (i1, i2) matrix and multiplied from both sides.

    Parameters: i1 × o1 + rank × (i2 + o2), or i1 × o1 + i2 × o2, per layer.

    Args:
        rank: Rank of the larger matrix.
        alpha: Strength of the update, which is scaled by alpha / rank.
        factor: Size of i1 and o1 where it divides in and out; by default the largest
            divisor up to the square root.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.LoKr(rank=8), layers="last:2")
    """

    name: ClassVar[str] = "lokr"
    title: ClassVar[str] = "LoKr"
    paper: ClassVar[str] = "Yeh et al. 2023, https://arxiv.org/abs/2309.14859"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.query", "attention.value")
    learning_rate: ClassVar[float] = 2e-2
    hugging_face: ClassVar[str | None] = "LOKR"

    rank: int = option(8, "rank of the larger matrix", minimum=1)
    alpha: float = option(16.0, "strength of the update, which is scaled by alpha / rank", above=0)
    factor: int | None = option(
        None,
        "size of the small matrix, if it divides in and out; by default, close to their square roots",
        minimum=1,
    )

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.methods._matrix import uniform_by_inputs as uniform

        (i1, i2), (o1, o2) = self._split(site)
        small = {"k": Weight((i1, o1), "zeros")}
        if self.rank >= max(i2, o2) / 2:
            return {**small, "c": Weight((i2, o2), uniform(i2))}
        return {
            **small,
            "a": Weight((i2, self.rank), uniform(i2)),
            "b": Weight((self.rank, o2), uniform(self.rank)),
        }

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

        from keras_peft.core.batched_weights import multiply
        from keras_peft.core.projection import linear_projection

        (i1, i2), (o1, o2) = self._split(view.site)
        x = linear_projection(view.site).flatten(inputs)
        lead = ops.shape(x)[:-1]
        x = ops.reshape(x, (*lead, i1, i2))
        is_whole = self.rank >= max(i2, o2) / 2
        right = multiply(x, weights.c) if is_whole else multiply(multiply(x, weights.a), weights.b)
        both = multiply(ops.swapaxes(right, -1, -2), weights.k)
        update = ops.reshape(ops.swapaxes(both, -1, -2), (*lead, o1 * o2)) * (self.alpha / self.rank)
        return view.run(call, lambda y: y + update, inputs, *args, **kwargs)

    def changed(self, site: Site, weights: Any, matrix: Any) -> Any:
        from keras_peft.core.arrays import reshape

        (_, i2), (_, o2) = self._split(site)
        large = weights.c if self.rank >= max(i2, o2) / 2 else weights.a @ weights.b
        product = weights.k[:, None, :, None] * large[None, :, None, :]
        return matrix + reshape(product, matrix.shape) * (self.alpha / self.rank)

    def _split(self, site: Site) -> tuple[tuple[int, int], tuple[int, int]]:
        view = self.view(site)
        return self._divided(view.inputs), self._divided(view.outputs)

    def _divided(self, size: int) -> tuple[int, int]:
        """Splits a size into two factors, the smaller first."""
        if self.factor is not None and size % self.factor == 0:
            return self.factor, size // self.factor
        most = min(math.isqrt(size), self.factor or size)
        small = next(divisor for divisor in range(most, 0, -1) if size % divisor == 0)
        return small, size // small
