"""Houlsby adapters: a bottleneck after attention and one after the feed-forward part.

Houlsby et al. 2019, "Parameter-Efficient Transfer Learning for NLP",
https://arxiv.org/abs/1902.00751, section 2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras_peft.methods._bottleneck import Bottleneck


@dataclass(frozen=True, kw_only=True)
class HoulsbyAdapter(Bottleneck):
    """Puts a bottleneck after both parts of a block, before their residual connections.

    y becomes y + s (f(y D + d) U + u), with D of (dim, size) and U of (size, dim). U and
    the biases start at zero: a new adapter changes nothing. It has a nonlinearity, so it
    cannot be merged.

    Parameters: 2 × dim × size + size + dim for each bottleneck, two in a block.

    Args:
        size: Units in the bottleneck.
        activation: What acts in it: "gelu", "relu", "silu" or "tanh".
        scaling: The factor s.
        dropout: Share of the bottleneck's inputs that is dropped while training.

    Raises:
        OptionError: If a value is out of range.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.HoulsbyAdapter(size=48), layers="all")
    """

    name: ClassVar[str] = "houlsby"
    title: ClassVar[str] = "Adapter layers (Houlsby)"
    paper: ClassVar[str] = "Houlsby et al. 2019, https://arxiv.org/abs/1902.00751"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.output", "ffn.down")
