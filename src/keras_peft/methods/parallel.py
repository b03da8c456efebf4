"""Parallel adapters: a bottleneck in parallel with the feed-forward network of a block.

He et al. 2021, "Towards a Unified View of Parameter-Efficient Transfer Learning",
https://arxiv.org/abs/2110.04366, section 4 (the scaled parallel adapter).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from keras_peft.core.method import Weight, WeightView, option
from keras_peft.methods._bottleneck import ACTIVATIONS, Bottleneck, bottleneck_weights

if TYPE_CHECKING:
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class ParallelAdapter(Bottleneck):
    """Adds a bottleneck in parallel with the feed-forward network of a block.

    FFN(x) becomes FFN(x) + s (f(x D + d) U + u), with D of shape (dim, size) and U of shape
    (size, dim). U and the biases start at zero, so a new adapter does not change the outputs.
    The adapter is nonlinear, so it cannot be merged.

    Parameters: 2 × dim × size + size + dim per block.

    Args:
        size: Number of units in the bottleneck.
        activation: Activation of the bottleneck: "gelu", "relu", "silu" or "tanh".
        scaling: The factor s; the paper uses 4.
        dropout: Fraction of the bottleneck's inputs to drop during training.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.ParallelAdapter(size=48), layers="all")
    """

    name: ClassVar[str] = "parallel"
    title: ClassVar[str] = "Adapter layers (parallel)"
    paper: ClassVar[str] = "He et al. 2021, https://arxiv.org/abs/2110.04366"
    default_targets: ClassVar[tuple[str, ...]] = ("block",)
    attaches_to: ClassVar[Literal["output", "feed-forward", "last-norm"]] = "feed-forward"

    activation: str = option(
        "relu", f"activation of the bottleneck: {', '.join(ACTIVATIONS)}", choices=ACTIVATIONS
    )
    scaling: float = option(4.0, "scale of the bottleneck's output", above=0)

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.core.places import matrix_view

        up, down = _feed_forward(site)
        return bottleneck_weights(matrix_view(up).inputs, self.size, matrix_view(down).outputs)

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core.intercept import attached

        up, down = _feed_forward(weights.site)
        read: list[Any] = []

        def remember(inner: Callable[..., Any], /, *inner_args: Any, **inner_kwargs: Any) -> Any:
            read.append(inner_args[0] if inner_args else inner_kwargs["inputs"])
            return inner(*inner_args, **inner_kwargs)

        def add(inner: Callable[..., Any], /, *inner_args: Any, **inner_kwargs: Any) -> Any:
            return inner(*inner_args, **inner_kwargs) + self.bottleneck(weights, read.pop())

        with attached(up.layer, remember), attached(down.layer, add):
            return call(*args, **kwargs)


def _feed_forward(site: Site) -> tuple[Site, Site]:
    from keras_peft.errors import SelectionError

    try:
        return site.inner["ffn.up"], site.inner["ffn.down"]
    except KeyError:
        raise SelectionError(
            f"{site.path} contains no layers with the roles 'ffn.up' and 'ffn.down'; choose blocks that do, or set "
            "`roles` to name these layers."
        ) from None
