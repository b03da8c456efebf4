"""Pfeiffer adapters: one bottleneck per block, after the feed-forward network.

Pfeiffer et al. 2020, "AdapterFusion: Non-Destructive Task Composition for Transfer
Learning", https://arxiv.org/abs/2005.00247, appendix A.1; in the form of He et al. 2021,
https://arxiv.org/abs/2110.04366, table 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras_peft.methods._bottleneck import Bottleneck


@dataclass(frozen=True, kw_only=True)
class PfeifferAdapter(Bottleneck):
    """Adds a bottleneck after the feed-forward network of a block, before its residual connection.

    y becomes y + s (f(y D + d) U + u), with D of shape (dim, size) and U of shape (size, dim).
    U and the biases start at zero, so a new adapter does not change the outputs. The adapter
    is nonlinear, so it cannot be merged. It has half as many weights as Houlsby's.

    Parameters: 2 × dim × size + size + dim per block.

    Args:
        size: Number of units in the bottleneck.
        activation: Activation of the bottleneck: "gelu", "relu", "silu" or "tanh".
        scaling: The factor s.
        dropout: Fraction of the bottleneck's inputs to drop during training.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.PfeifferAdapter(size=48), layers="all")
    """

    name: ClassVar[str] = "pfeiffer"
    title: ClassVar[str] = "Adapter layers (Pfeiffer)"
    paper: ClassVar[str] = "Pfeiffer et al. 2020, https://arxiv.org/abs/2005.00247"
    default_targets: ClassVar[tuple[str, ...]] = ("ffn.down",)
