"""Full fine-tuning: trains every weight of the selected layers.

Howard and Ruder 2018, "Universal Language Model Fine-tuning for Text Classification",
https://arxiv.org/abs/1801.06146; for BERT, Devlin et al. 2018,
https://arxiv.org/abs/1810.04805. A baseline for the accuracy
and the cost of training all weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from keras_peft.core.method import Method

if TYPE_CHECKING:
    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class FullFineTuning(Method):
    """Trains the base's own weights in the selected layers.

    The upper baseline, in accuracy and in cost: the adapter is as large as the weights it
    trains. Switching adapters restores the base's weights bit for bit. A batch cannot mix
    this adapter with others, and quantised weights cannot be trained.

    Parameters: all weights of the selected layers.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.FullFineTuning(), head=head)
    """

    name: ClassVar[str] = "full"
    title: ClassVar[str] = "Full fine-tuning (baseline)"
    paper: ClassVar[str] = "Howard and Ruder 2018, https://arxiv.org/abs/1801.06146"
    default_targets: ClassVar[tuple[str, ...]] = (".",)
    default_layers: ClassVar[str] = "all"
    learning_rate: ClassVar[float] = 1e-4
    merges: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    is_baseline: ClassVar[bool] = True
    supports_mixed_batch: ClassVar[bool] = False
    quantised: ClassVar[bool] = False

    def trains(self, site: Site, variable: str) -> bool:
        from keras_peft.core.sites import own_variables

        if getattr(site, "layer", None) is None:  # A `Place` has only weights.
            return True
        (found,) = [v for v in own_variables(site.layer) if v.name == variable]
        return bool(site.role != "head" and _is_weight(found))


def _is_weight(variable: object) -> bool:
    """Returns whether a variable is a weight rather than a running statistic or a seed state."""
    import keras

    names = ("moving_mean", "moving_variance", "seed_generator_state")
    return bool(
        keras.backend.is_float_dtype(variable.dtype) and variable.name not in names  # type: ignore[attr-defined]
    )
