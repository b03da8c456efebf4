"""LoRA: y = x W + s (x A) B, with s = alpha / rank.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models",
https://arxiv.org/abs/2106.09685, equation 3. With `rank_stabilized`, s is
alpha / sqrt(rank): Kalajdzievski 2023, https://arxiv.org/abs/2312.03732.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Held, Method, Weight, option

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class LoRA(Method):
    """Adds a trainable product of two narrow matrices to frozen projections.

    The update is computed along the narrow path, `s (x A) B`, so that neither the
    product A B nor a gradient of its size is ever made. A is (in, rank) and B is
    (rank, out), on attention's kernels too, whose heads are taken as one axis. A
    starts uniform in ±1/sqrt(in) and B at zero: a new adapter changes nothing.

    Parameters: rank × (in + out) for each projection.

    Args:
        rank: Width of the path between A and B.
        alpha: Strength of the update; it is scaled by alpha / rank.
        dropout: Share of the inputs to A that is dropped while training.
        rank_stabilized: Scale by alpha / sqrt(rank), which keeps the step's size
            when the rank grows (rsLoRA).

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.LoRA(rank=8), layers="last:2")
    """

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA, rsLoRA"
    paper: ClassVar[str] = "Hu et al. 2021, https://arxiv.org/abs/2106.09685"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.query", "attention.value")
    learning_rate: ClassVar[float] = 1e-3

    rank: int = option(8, "width of the low-rank path", minimum=1)
    alpha: float = option(16.0, "strength of the update, which is scaled by alpha / rank", above=0)
    dropout: float = option(0.1, "share of the path's inputs dropped while training", minimum=0, below=1)
    rank_stabilized: bool = option(False, "scale by alpha / sqrt(rank) instead (rsLoRA)")

    @property
    def scaling(self) -> float:
        """The factor s."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)

    def weights(self, site: Site) -> Mapping[str, Weight]:
        import keras

        from keras_peft.core.projection import projection

        view = projection(site)
        uniform = keras.initializers.VarianceScaling(1 / 3, mode="fan_in", distribution="uniform")
        return {
            "a": Weight((view.inputs, self.rank), uniform),
            "b": Weight((self.rank, view.outputs), "zeros"),
        }

    def around(self, held: Held, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras import ops

        from keras_peft.core.intercept import before_activation
        from keras_peft.core.projection import projection

        inputs = args[0] if args else kwargs.pop("inputs")
        narrow = ops.matmul(held.dropout(projection(held.site).flatten(inputs)), held.a)
        update = ops.matmul(narrow * self.scaling, held.b)
        with before_activation(held.site.layer) as activation:
            outputs = call(inputs, **kwargs)
        return activation(outputs + ops.cast(ops.reshape(update, ops.shape(outputs)), outputs.dtype))

    def delta(self, site: Site, weights: Mapping[str, np.ndarray]) -> np.ndarray:
        from keras_peft.core.projection import projection

        return projection(site).matrix_to_kernel(self.scaling * (weights["a"] @ weights["b"]))
