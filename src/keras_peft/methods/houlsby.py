"""Houlsby adapters: one bottleneck after attention and one after the feed-forward network.

Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP",
https://arxiv.org/abs/1902.00751, section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras_peft.methods._bottleneck import Bottleneck


@dataclass(frozen=True, kw_only=True)
class HoulsbyAdapter(Bottleneck):
    """Adds a bottleneck after attention and one after the feed-forward network of a block.

    Both come before the residual connection: y becomes y + s (f(y D + d) U + u), with D of
    shape (dim, size) and U of shape (size, dim). U and the biases start at zero, so a new
    adapter does not change the outputs. The adapter is nonlinear, so it cannot be merged.

    Parameters: 2 × dim × size + size + dim per bottleneck, with two bottlenecks per block.

    Args:
        size: Number of units in the bottleneck.
        activation: Activation of the bottleneck: "gelu", "relu", "silu" or "tanh".
        scaling: The factor s.
        dropout: Fraction of the bottleneck's inputs to drop during training.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.HoulsbyAdapter(size=48), layers="all")
    """

    name: ClassVar[str] = "houlsby"
    title: ClassVar[str] = "Adapter layers (Houlsby)"
    paper: ClassVar[str] = "Houlsby et al. 2019, https://arxiv.org/abs/1902.00751"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.output", "ffn.down")
