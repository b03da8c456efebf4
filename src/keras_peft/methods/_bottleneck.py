"""Shared parts of the bottleneck adapters: down projection, activation, up projection."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from keras_peft.core.method import Method, Weight, WeightView, option

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core import effects
    from keras_peft.core.sites import Site

ACTIVATIONS = ("gelu", "relu", "silu", "tanh")


@dataclass(frozen=True, kw_only=True)
class Bottleneck(Method):
    """Adds a bottleneck with a residual connection after a projection: y + s (f(y D + d) U + u)."""

    learning_rate: ClassVar[float] = 3e-3
    # See `effects.Bottleneck`.
    attaches_to: ClassVar[Literal["output", "feed-forward", "last-norm"]] = "output"

    size: int = option(48, "number of units in the bottleneck", minimum=1)
    activation: str = option(
        "gelu", f"activation of the bottleneck: {', '.join(ACTIVATIONS)}", choices=ACTIVATIONS
    )
    scaling: float = option(1.0, "scale of the bottleneck's output", above=0)
    dropout: float = option(
        0.1, "fraction of the bottleneck's inputs to drop during training", minimum=0, below=1
    )

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.core.places import matrix_view

        outputs = matrix_view(site).outputs
        return bottleneck_weights(outputs, self.size, outputs)

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        outputs = call(*args, **kwargs)
        return outputs + self.bottleneck(weights, outputs)

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> effects.Bottleneck:
        from keras_peft.core import effects

        return effects.Bottleneck(
            **weights, activation=self.activation, scaling=self.scaling, attaches_to=self.attaches_to
        )

    def bottleneck(self, weights: WeightView, x: Any) -> Any:
        """Computes s (f(x D + d) U + u)."""
        return through(weights, x, weights.down, weights.up, self.activation) * self.scaling


def through(weights: WeightView, x: Any, down: Any, up: Any, activation: str) -> Any:
    """Computes f(x D + d) U + u from the matrices D and U and the site's biases."""
    import keras

    from keras_peft.core.batched_weights import align, multiply

    narrow = multiply(weights.dropout(x), down)
    narrow = keras.activations.get(activation)(narrow + align(weights.down_bias, narrow))
    wide = multiply(narrow, up)
    return wide + align(weights.up_bias, wide)


def bottleneck_weights(inputs: int, size: int, outputs: int) -> dict[str, Weight]:
    """Returns D (inputs, size), random, U (size, outputs), zero, and their biases, zero."""
    from keras_peft.methods._matrix import uniform_by_inputs

    return {
        "down": Weight((inputs, size), uniform_by_inputs(inputs)),
        "down_bias": Weight((size,), "zeros"),
        "up": Weight((size, outputs), "zeros"),
        "up_bias": Weight((outputs,), "zeros"),
    }
