"""Linear probe: trains only the head.

Alain and Bengio 2016, "Understanding intermediate layers using linear classifier probes",
https://arxiv.org/abs/1610.01644. A baseline for the accuracy of the frozen base.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from keras_peft.core.method import Method


@dataclass(frozen=True, kw_only=True)
class LinearProbe(Method):
    """Trains only the head, on the outputs of the frozen base.

    The lower baseline: a method that is not better than this one does not help on your data.

    Parameters: only the head's.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.LinearProbe(), head=head)
    """

    name: ClassVar[str] = "linear-probe"
    title: ClassVar[str] = "Linear probe (baseline)"
    paper: ClassVar[str] = "Alain and Bengio 2016, https://arxiv.org/abs/1610.01644"
    default_targets: ClassVar[tuple[str, ...]] = ()
    default_layers: ClassVar[str] = "all"
    learning_rate: ClassVar[float] = 3e-3
    head_learning_rate: ClassVar[float] = 3e-3
    merges: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    is_baseline: ClassVar[bool] = True
