"""Full fine-tuning: every weight of the chosen layers trains.

Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification",
https://arxiv.org/abs/1801.06146; for BERT, Devlin et al. 2018,
https://arxiv.org/abs/1810.04805. A yardstick: what the price of all weights buys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from keras_peft.core.method import Method

if TYPE_CHECKING:
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class FullFineTuning(Method):
    """Moves the base's own weights, those that an optimizer can move.

    The upper yardstick, in what it can learn and what it costs: the adapter is as large
    as what it trains. Switching gives the base its weights back, bit for bit, but rows of
    other adapters cannot share a batch with it, and quantised weights cannot train.

    Parameters: all of the chosen layers'.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.FullFineTuning(), head=head)
    """

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "Full fine-tuning (yardstick)"
    paper: ClassVar[str] = "Howard and Ruder 2018, https://arxiv.org/abs/1801.06146"
    default_targets: ClassVar[tuple[str, ...]] = (".",)
    default_layers: ClassVar[str] = "all"
    learning_rate: ClassVar[float] = 1e-4
    merges: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    supports_mixed_batch: ClassVar[bool] = False
    quantised: ClassVar[bool] = False

    def trains(self, site: Site, variable: str) -> bool:
        from keras_peft.core.sites import own_variables

        (found,) = [v for v in own_variables(site.layer) if v.name == variable]
        return bool(site.role != "head" and _is_weight(found))


def _is_weight(variable: object) -> bool:
    """Whether a variable is a weight, and not a running mean or the state of a seed."""
    import keras

    names = ("moving_mean", "moving_variance", "seed_generator_state")
    return bool(
        keras.backend.is_float_dtype(variable.dtype) and variable.name not in names  # type: ignore[attr-defined]
    )
