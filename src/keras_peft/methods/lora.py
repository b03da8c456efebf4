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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Weight, option
from keras_peft.methods._matrix import LowRankMethod

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class LoRA(LowRankMethod):
    """Adds a trainable low-rank update to frozen layers.

    The update is computed as `s (x A) B`, so neither the product A B nor its gradient is
    ever materialised. A is (in, rank) and B is (rank, out); in attention kernels, all heads
    form one axis. A starts with uniform random values in ±1/sqrt(in) and B at zero, so a new
    adapter does not change the outputs.

    In a convolution, x A is a convolution with `rank` filters, so in is the size of a patch. In
    an embedding, in is the size of the vocabulary, x A looks up rows of A, which starts at zero,
    and nothing is dropped. In an LSTM or GRU, W stacks the kernel on the recurrent kernel, and
    values of A are dropped instead of inputs.

    Parameters: rank × (in + out) per layer.

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
        from keras_peft.methods._matrix import factors

        new = factors(self.view(site), self.rank)
        if self.initialization == "default":
            return new
        start = functools.cache(lambda: self._principal(site))
        return {
            f"{name}{suffix}": Weight(
                weight.shape,
                lambda _shape, dtype=None, name=name: start()[name],
                trainable=not suffix,
            )
            for suffix in ("", "0")
            for name, weight in new.items()
        }

    def rates(self) -> Mapping[str, float]:
        return {"b": self.learning_rate_ratio}

    def factors(self, site: Site, weights: Any) -> Sequence[tuple[Any, Any]]:
        pairs = [(weights.a, weights.b * self.scaling)]
        if self.initialization != "default":
            # Subtracted on its own, so that it cancels out exactly at the start.
            pairs.append((weights.a0, weights.b0 * -self.scaling))
        return pairs

    def _principal(self, site: Site) -> dict[str, np.ndarray]:
        """Returns the initial A and B, taken from the principal part of W."""
        import numpy as np

        from keras_peft.core.layouts import gathered
        from keras_peft.errors import OptionError

        matrix = gathered(self.view(site).matrix()).astype(np.float64)
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
