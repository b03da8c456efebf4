"""LoRA: y = x W + s (x A) B, with s = alpha / rank.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models",
https://arxiv.org/abs/2106.09685, equation 3. With `rank_stabilized`, s is
alpha / sqrt(rank): Kalajdzievski 2023, https://arxiv.org/abs/2312.03732. The
learning rate of B is `learning_rate_ratio` times that of A (LoRA+): Hayou et al. 2024,
https://arxiv.org/abs/2402.12354.

With `initialization="pissa"`, A B starts as the first singular vectors of W, scaled by
their singular values: Meng et al. 2024, https://arxiv.org/abs/2404.02948, equations 2 to
4. With "olora", it starts as the first columns and rows of the QR decomposition of W:
Büyükakyüz 2024, https://arxiv.org/abs/2406.01775. The initial values are kept as A0 and
B0 and subtracted, y = x W + s ((x A) B - (x A0) B0), so W itself does not change.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Method, Weight, WeightView, option

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class LoRA(Method):
    """Adds a trainable low-rank update to frozen projections.

    The update is computed as `s (x A) B`, so neither the product A B nor its gradient is
    ever materialised. A is (in, rank) and B is (rank, out); in attention kernels, all heads
    form one axis. A starts with uniform random values in ±1/sqrt(in) and B at zero, so a new
    adapter does not change the outputs.

    Parameters: rank × (in + out) per projection.

    Args:
        rank: Rank of the update.
        alpha: Strength of the update, which is scaled by alpha / rank.
        dropout: Fraction of the inputs of A to drop during training.
        rank_stabilized: Scale by alpha / sqrt(rank) instead, which keeps the step size
            stable as the rank grows (rsLoRA).
        initialization: "default", "pissa" or "olora". The last two need a rank no larger
            than either dimension of the projection.
        learning_rate_ratio: Learning rate of B relative to that of A (LoRA+ uses 16).

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.LoRA(rank=8), layers="last:2")
    """

    name: ClassVar[str] = "lora"
    title: ClassVar[str] = "LoRA, rsLoRA, PiSSA, OLoRA, LoRA+"
    paper: ClassVar[str] = "Hu et al. 2021, https://arxiv.org/abs/2106.09685"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.query", "attention.value")
    learning_rate: ClassVar[float] = 2e-3
    merges: ClassVar[bool] = True
    hugging_face: ClassVar[str | None] = "LORA"

    rank: int = option(8, "rank of the update", minimum=1)
    alpha: float = option(16.0, "strength of the update, which is scaled by alpha / rank", above=0)
    dropout: float = option(0.1, "fraction of the inputs of A to drop during training", minimum=0, below=1)
    rank_stabilized: bool = option(False, "scale by alpha / sqrt(rank) instead (rsLoRA)")
    initialization: str = option(
        "default", "initialization of A and B: default, pissa or olora", choices=("default", "pissa", "olora")
    )
    learning_rate_ratio: float = option(
        1.0, "learning rate of B relative to that of A (LoRA+ uses 16)", above=0
    )

    @property
    def scaling(self) -> float:
        """The factor s."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilized else self.rank)

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.core.projection import projection
        from keras_peft.methods._low_rank import factors

        view = projection(site)
        shapes = {"a": (view.inputs, self.rank), "b": (self.rank, view.outputs)}
        if self.initialization == "default":
            return factors(view.inputs, self.rank, view.outputs)
        start = functools.cache(lambda: self._principal(site))
        return {
            f"{name}{suffix}": Weight(
                shape,
                lambda _shape, dtype=None, name=name: start()[name],
                trainable=not suffix,
            )
            for suffix in ("", "0")
            for name, shape in shapes.items()
        }

    def rates(self) -> Mapping[str, float]:
        return {"b": self.learning_rate_ratio}

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core import projection
        from keras_peft.core.batched_weights import multiply
        from keras_peft.core.intercept import split_inputs

        inputs, rest = split_inputs(args, kwargs)
        x = weights.dropout(projection.projection(weights.site).flatten(inputs))
        update = multiply(multiply(x, weights.a) * self.scaling, weights.b)
        if self.initialization != "default":
            update = update - multiply(multiply(x, weights.a0) * self.scaling, weights.b0)
        return projection.run(weights.site, call, lambda y: y + update, inputs, *rest, **kwargs)

    def merged(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        from keras_peft.core.projection import projection

        delta = weights["a"] @ weights["b"]
        if self.initialization != "default":
            delta = delta - weights["a0"] @ weights["b0"]
        return {"kernel": values["kernel"] + projection(site).matrix_to_kernel(self.scaling * delta)}

    def product(self, site: Site, weights: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray] | None:
        import numpy as np

        a, b = weights["a"], self.scaling * weights["b"]
        if self.initialization == "default":
            return a, b
        return np.hstack([a, weights["a0"]]), np.vstack([b, -self.scaling * weights["b0"]])

    def _principal(self, site: Site) -> dict[str, np.ndarray]:
        """Returns the initial A and B, taken from the principal part of W."""
        import keras
        import numpy as np

        from keras_peft.core.projection import matrix_of
        from keras_peft.errors import OptionError

        matrix = keras.ops.convert_to_numpy(matrix_of(site)).astype(np.float64)
        if self.rank > min(matrix.shape):
            raise OptionError(
                f"{site.path} multiplies by a {matrix.shape[0]} × {matrix.shape[1]} matrix, which has fewer "
                f"than {self.rank} principal directions; use a smaller rank with {self.initialization}."
            )
        if self.initialization == "pissa":
            left, values, right = np.linalg.svd(matrix, full_matrices=False)
            root = np.sqrt(values[: self.rank] / self.scaling)
            a, b = left[:, : self.rank] * root, root[:, None] * right[: self.rank]
        else:
            q, r = np.linalg.qr(matrix.T)
            a, b = r[: self.rank].T, q[:, : self.rank].T
        return {"a": a.astype(np.float32), "b": b.astype(np.float32)}
