"""VeRA: y = x W + ((x A) · d B) · b, with A and B random, frozen and shared by all sites.

Kopiczko et al. 2023, "VeRA: Vector-based Random Matrix Adaptation",
https://arxiv.org/abs/2310.11454, equation 2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Weight, initializer, option
from keras_peft.methods._matrix import LowRankMethod

if TYPE_CHECKING:
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class VeRA(LowRankMethod):
    """Trains two vectors per site, which scale random matrices that all sites share.

    A is (largest in, rank) and B is (rank, largest out); smaller sites use their first rows
    and columns. d is (rank,) and starts at `initial`; b is (out,) and starts at zero, so a
    new adapter does not change the outputs. A and B are stored in the adapter's file.

    Parameters: rank + out per layer.

    Args:
        rank: Rank of the random matrices. It can be large: each unit adds only one trainable
            value per output.
        initial: Initial value of d.
        dropout: Fraction of the inputs of A to drop during training.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.VeRA(rank=256), layers="last:2")
    """

    name: ClassVar[str] = "vera"
    title: ClassVar[str] = "VeRA"
    paper: ClassVar[str] = "Kopiczko et al. 2023, https://arxiv.org/abs/2310.11454"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.query", "attention.value")
    learning_rate: ClassVar[float] = 1e-1
    hugging_face: ClassVar[str | None] = "VERA"

    rank: int = option(256, "rank of the random matrices", minimum=1)
    initial: float = option(0.1, "initial value of the vector d")
    dropout: float = option(0.0, "fraction of the inputs of A to drop during training", minimum=0, below=1)

    def shared(self, sites: Sequence[Site]) -> Mapping[str, Weight]:

        views = [self.view(site) for site in sites]
        inputs, outputs = max(view.inputs for view in views), max(view.outputs for view in views)
        return {
            "a": Weight((inputs, self.rank), initializer("HeUniform"), trainable=False),
            "b": Weight((self.rank, outputs), initializer("HeUniform"), trainable=False),
        }

    def weights(self, site: Site) -> Mapping[str, Weight]:

        return {
            "scale_d": Weight((self.rank,), initializer("Constant", value=self.initial)),
            "scale_b": Weight((self.view(site).outputs,), "zeros"),
        }

    def factors(self, site: Site, weights: Any) -> Sequence[tuple[Any, Any]]:
        from keras_peft.core.batched_weights import align

        view = self.view(site)
        a, b = weights.a[..., : view.inputs, :], weights.b[..., : view.outputs]
        return [(a * align(weights.scale_d, a), b * align(weights.scale_b, b))]
