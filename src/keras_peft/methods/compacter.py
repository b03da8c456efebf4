"""Compacter: bottleneck adapters whose matrices are sums of Kronecker products.

Karimi Mahabadi et al. 2021, "Compacter: Efficient Low-Rank Hypercomplex Adapter Layers",
https://arxiv.org/abs/2106.04647, equations 4 to 6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Method, Weight, WeightView, option
from keras_peft.methods._bottleneck import ACTIVATIONS, through

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.effects import Bottleneck
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class Compacter(Method):
    """Adds Houlsby-style bottlenecks whose matrices are Σᵢ Aᵢ ⊗ (Lᵢ Rᵢ), i = 1 … n.

    All bottlenecks share the n matrices Aᵢ of shape (n, n). L is (n, rows / n, rank) and R
    is (n, rank, columns / n). R of the up projection starts at zero, so a new adapter does
    not change the outputs. The adapter is nonlinear, so it cannot be merged.

    Parameters: n³ in total, and 2 × rank × (dim + size) + size + dim per bottleneck.

    Args:
        size: Number of units in the bottleneck.
        products: Number n of Kronecker products; dim and `size` must be divisible by it.
        rank: Rank of the larger factor.
        activation: Activation of the bottleneck: "gelu", "relu", "silu" or "tanh".
        dropout: Fraction of the bottleneck's inputs to drop during training.

    Raises:
        OptionError: If a value is out of range, or `size` is not divisible by `products`.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.Compacter(size=48), layers="all")
    """

    name: ClassVar[str] = "compacter"
    title: ClassVar[str] = "Compacter"
    paper: ClassVar[str] = "Karimi Mahabadi et al. 2021, https://arxiv.org/abs/2106.04647"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.output", "ffn.down")
    learning_rate: ClassVar[float] = 1e-2

    size: int = option(48, "number of units in the bottleneck", minimum=1)
    products: int = option(4, "number of Kronecker products per matrix", minimum=1)
    rank: int = option(1, "rank of the larger factor", minimum=1)
    activation: str = option(
        "gelu", f"activation of the bottleneck: {', '.join(ACTIVATIONS)}", choices=ACTIVATIONS
    )
    dropout: float = option(
        0.1, "fraction of the bottleneck's inputs to drop during training", minimum=0, below=1
    )

    def __post_init__(self) -> None:
        from keras_peft.errors import OptionError

        super().__post_init__()
        if self.size % self.products:
            raise OptionError(
                f"Compacter: `size` must be divisible by `products`, got {self.size} and {self.products}."
            )

    def shared(self, sites: Sequence[Site]) -> Mapping[str, Weight]:
        n = self.products
        return {"rule": Weight((n, n, n), "glorot_uniform")}

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.core.places import matrix_view
        from keras_peft.errors import OptionError

        n, dim = self.products, matrix_view(site).outputs
        if dim % n:
            raise OptionError(f"{site.path} returns {dim} values, which is not divisible by `products={n}`.")
        return {
            "down_left": Weight((n, dim // n, self.rank), "glorot_uniform"),
            "down_right": Weight((n, self.rank, self.size // n), "glorot_uniform"),
            "down_bias": Weight((self.size,), "zeros"),
            "up_left": Weight((n, self.size // n, self.rank), "glorot_uniform"),
            "up_right": Weight((n, self.rank, dim // n), "zeros"),
            "up_bias": Weight((dim,), "zeros"),
        }

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        down = _sum_of_products(weights.rule, weights.down_left, weights.down_right)
        up = _sum_of_products(weights.rule, weights.up_left, weights.up_right)
        return outputs + through(weights, outputs, down, up, self.activation)

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Bottleneck:
        from keras_peft.core.effects import Bottleneck

        return Bottleneck(
            down=_sum_of_products(weights["rule"], weights["down_left"], weights["down_right"]),
            down_bias=weights["down_bias"],
            up=_sum_of_products(weights["rule"], weights["up_left"], weights["up_right"]),
            up_bias=weights["up_bias"],
            activation=self.activation,
        )


def _sum_of_products(rule: Any, left: Any, right: Any) -> Any:
    """Computes Σᵢ ruleᵢ ⊗ (leftᵢ rightᵢ), a matrix (rows, columns) after any leading batch axes."""
    from keras_peft.core.arrays import operations

    ops = operations(rule)
    large = ops.matmul(left, right)
    product = ops.einsum("...iab,...icd->...acbd", rule, large)
    shape = product.shape
    rows, columns = shape[-4] * shape[-3], shape[-2] * shape[-1]
    return ops.reshape(product, (*ops.shape(product)[:-4], rows, columns))
