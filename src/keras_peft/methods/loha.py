"""LoHa: y = x (W + s (A1 B1) ∘ (A2 B2)), with ∘ the entrywise product and s = alpha / rank.

Hyeon-Woo et al. 2021, "FedPara: Low-Rank Hadamard Product for Communication-Efficient
Federated Learning", https://arxiv.org/abs/2108.06098, proposition 1; as an adapter in Yeh
et al. 2023, "Navigating Text-To-Image Customization", https://arxiv.org/abs/2309.14859.
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
class LoHa(MatrixMethod):
    """Adds the entrywise product of two low-rank matrices, which can have rank up to rank².

    A1 and A2 are (in, rank); B1 and B2 are (rank, out). A2 starts at zero, so a new adapter
    does not change the outputs; the others start with uniform random values in
    ±1/sqrt(rows). Each step materialises the full (in, out) product.

    Parameters: 2 × rank × (in + out) per layer.

    Args:
        rank: Rank of each of the two matrices.
        alpha: Strength of the update, which is scaled by alpha / rank.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.LoHa(rank=8), layers="last:2")
    """

    name: ClassVar[str] = "loha"
    title: ClassVar[str] = "LoHa"
    paper: ClassVar[str] = "Hyeon-Woo et al. 2021, https://arxiv.org/abs/2108.06098"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.query", "attention.value")
    learning_rate: ClassVar[float] = 5e-3
    hugging_face: ClassVar[str | None] = "LOHA"

    rank: int = option(8, "rank of each of the two matrices", minimum=1)
    alpha: float = option(16.0, "strength of the update, which is scaled by alpha / rank", above=0)

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.methods._matrix import uniform_by_inputs as uniform

        view = self.view(site)
        return {
            "a1": Weight((view.inputs, self.rank), uniform(view.inputs)),
            "b1": Weight((self.rank, view.outputs), uniform(self.rank)),
            "a2": Weight((view.inputs, self.rank), "zeros"),
            "b2": Weight((self.rank, view.outputs), uniform(self.rank)),
        }

    def run(
        self,
        view: Projection,
        weights: WeightView,
        call: Callable[..., Any],
        inputs: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        update = view.multiply(inputs, self._update(weights))
        return view.run(call, lambda y: y + update, inputs, *args, **kwargs)

    def changed(self, site: Site, weights: Any, matrix: Any) -> Any:
        return matrix + self._update(weights)

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Affine:
        from keras_peft.core.effects import Affine

        # The entrywise product of two matrices of rank r has at most rank r².
        left = weights["a1"][:, :, None] * weights["a2"][:, None, :]
        right = weights["b1"][:, None, :] * weights["b2"][None, :, :]
        rank = self.rank**2
        return Affine(left=left.reshape(-1, rank), right=right.reshape(rank, -1) * (self.alpha / self.rank))

    def _update(self, weights: Any) -> Any:
        return (weights.a1 @ weights.b1) * (weights.a2 @ weights.b2) * (self.alpha / self.rank)
