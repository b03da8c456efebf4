"""DoRA: y = x (W + s A B) m / ‖W + s A B‖, with one norm and one magnitude m per output.

Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation",
https://arxiv.org/abs/2402.09353, equation 5. No gradient flows through the norm
(section 4.3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Weight, WeightView, option
from keras_peft.methods._matrix import MatrixMethod

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.effects import Affine
    from keras_peft.core.projection import Projection
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class DoRA(MatrixMethod):
    """Trains the magnitude and, with a low-rank update, the direction of a projection's columns.

    A is (in, rank), B is (rank, out) and the magnitude m is (out,). B starts at zero and m
    at the column norms of W, so a new adapter changes the outputs by rounding only. The
    updated kernel is never materialised: its norm is computed from W, A and B.

    Parameters: rank × (in + out) + out per layer.

    Args:
        rank: Rank of the update.
        alpha: Strength of the update, which is scaled by alpha / rank.
        dropout: Fraction of the inputs of A to drop during training.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.DoRA(rank=8), layers="last:2")
    """

    name: ClassVar[str] = "dora"
    title: ClassVar[str] = "DoRA"
    paper: ClassVar[str] = "Liu et al. 2024, https://arxiv.org/abs/2402.09353"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.query", "attention.value")
    learning_rate: ClassVar[float] = 2e-3
    reads_ids: ClassVar[bool] = True
    innermost: ClassVar[bool] = True
    hugging_face: ClassVar[str | None] = "LORA"

    rank: int = option(8, "rank of the update", minimum=1)
    alpha: float = option(16.0, "strength of the update, which is scaled by alpha / rank", above=0)
    dropout: float = option(0.1, "fraction of the inputs of A to drop during training", minimum=0, below=1)

    @property
    def scaling(self) -> float:
        """The factor s."""
        return self.alpha / self.rank

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.methods._matrix import factors

        view = self.view(site)

        def norms(_shape: Any, dtype: Any = None) -> Any:
            return _norms(view.matrix())

        return {**factors(view, self.rank), "magnitude": Weight((view.outputs,), norms)}

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

        from keras_peft.core.batched_weights import align, multiply
        from keras_peft.methods._matrix import dropped

        x = dropped(view, weights, inputs)
        update = multiply(view.multiply(x, weights.a) * self.scaling, weights.b)
        length = ops.stop_gradient(self._length(view, weights))
        bias = view.bias()

        def change(y: Any) -> Any:
            factor = ops.cast(align(weights.exact("magnitude") / length, y), y.dtype)
            offset = ops.cast(bias, y.dtype)
            return (y - offset + update) * factor + offset

        return view.run(call, change, inputs, *args, **kwargs)

    def changed(self, site: Site, weights: Any, matrix: Any) -> Any:
        from keras_peft.core.arrays import constant

        changed = matrix + self.scaling * (weights.dropout(weights.a) @ weights.b)
        # The norm counts as a constant in training (section 4.3).
        length = constant(_norms(changed))
        return changed * (weights.magnitude / length)

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Affine:
        import numpy as np

        from keras_peft.core.effects import Affine

        matrix = self.view(site).matrix_from(values)
        factor = weights["magnitude"] / _norms(matrix + self.scaling * (weights["a"] @ weights["b"]))
        # The bias is not scaled.
        bias = values["bias"].reshape(-1) * (1 - factor) if "bias" in values else np.zeros_like(factor)
        return Affine(
            output_scale=factor, left=weights["a"], right=weights["b"] * (self.scaling * factor), bias=bias
        )

    def _length(self, view: Projection, weights: WeightView) -> Any:
        """Computes ‖W + s A B‖ per output, (out,) or (batch, out), without the full product A B."""
        from keras import ops

        matrix, a, b = view.matrix(), weights.exact("a"), weights.exact("b") * self.scaling
        across = ops.swapaxes(a, -1, -2)
        squares = ops.sum(ops.square(matrix), axis=0)
        mixed = ops.sum(ops.matmul(across, matrix) * b, axis=-2)
        own = ops.sum(ops.matmul(ops.matmul(across, a), b) * b, axis=-2)
        return ops.sqrt(ops.maximum(squares + 2 * mixed + own, 1e-12))


def _norms(matrix: Any) -> Any:
    """Returns the norm of each column of a NumPy array or a tensor."""
    from keras_peft.core.arrays import operations

    ops = operations(matrix)
    return ops.sqrt(ops.maximum(ops.sum(ops.square(matrix), axis=0), 1e-12))
