"""Pfeiffer adapters: one bottleneck in a block, after the feed-forward part.

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
    """Puts a bottleneck after the feed-forward part of a block, before its residual connection.

    y becomes y + s (f(y D + d) U + u), with D of (dim, size) and U of (size, dim). U and
    the biases start at zero: a new adapter changes nothing. It has a nonlinearity, so it
    cannot be merged. It has half of Houlsby's weights.

    Parameters: 2 × dim × size + size + dim for each block.

    Args:
        size: Units in the bottleneck.
        activation: What acts in it: "gelu", "relu", "silu" or "tanh".
        scaling: The factor s.
        dropout: Share of the bottleneck's inputs that is dropped while training.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.PfeifferAdapter(size=48), layers="all")
    """

    name: ClassVar[str] = "pfeiffer"
    title: ClassVar[str] = "Adapter layers (Pfeiffer)"
    paper: ClassVar[str] = "Pfeiffer et al. 2020, https://arxiv.org/abs/2005.00247"
    default_targets: ClassVar[tuple[str, ...]] = ("ffn.down",)
