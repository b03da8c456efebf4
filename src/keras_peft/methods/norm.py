"""Norm tuning: trains only the scales and shifts of the normalisation layers.

Zhao et al. 2023, "Tuning LayerNorm in Attention: Towards Efficient Multi-Modal LLM
Finetuning", https://arxiv.org/abs/2312.11420; for convolutional networks Frankle et al.
2020, https://arxiv.org/abs/2003.00152.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from keras_peft.core.method import Method, Weight, WeightView

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.core.sites import Site


@dataclass(frozen=True, kw_only=True)
class NormTuning(Method):
    """Scales and shifts the output of each norm: y = norm(x) · g + d.

    This is the same norm with the scale γ g and the shift β g + d. g starts at one and d at
    zero, so a new adapter does not change the outputs. There is a d only where the norm has
    a shift. The base's own scales and shifts stay as they are, so several adapters can share
    a base.

    Parameters: 2 × dim per norm with a shift, dim per norm without one.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.methods.NormTuning(), layers="all")
    """

    name: ClassVar[str] = "norm"
    title: ClassVar[str] = "Norm tuning"
    paper: ClassVar[str] = "Zhao et al. 2023, https://arxiv.org/abs/2312.11420"
    default_targets: ClassVar[tuple[str, ...]] = ("norm",)
    default_layers: ClassVar[str] = "all"
    learning_rate: ClassVar[float] = 5e-3
    merges: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    hugging_face: ClassVar[str | None] = "LN_TUNING"

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.errors import SelectionError

        if site.role != "norm":
            raise SelectionError(
                f"{site.path} is a {type(site.layer).__name__} without the role 'norm'; choose targets that are "
                "norms, or give your own norms this role with `roles`."
            )
        scale, shift = _variables(site)
        weights = {}
        if scale is not None:
            weights["scale"] = Weight(tuple(scale.shape), "ones")
        if shift is not None:
            weights["shift"] = Weight(tuple(shift.shape), "zeros")
        return weights

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core.batched_weights import align

        scale, shift = _variables(weights.site)
        outputs = call(*args, **kwargs)
        if scale is not None:
            outputs = outputs * align(weights.scale, outputs)
        if shift is not None:
            outputs = outputs + align(weights.shift, outputs)
        return outputs

    def merged(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        from keras_peft.errors import AdapterError

        scale, shift = _variables(site)
        if not type(site.layer).__module__.startswith("keras.src.layers"):
            raise AdapterError(
                f"{site.path} is a {type(site.layer).__name__}, whose use of the scale is unknown, so norm "
                "tuning cannot be merged into it."
            )
        changed = {}
        factor = weights.get("scale", 1.0)
        if scale is not None:
            changed[scale.name] = values[scale.name] * factor
        if shift is not None:
            changed[shift.name] = values[shift.name] * factor + weights["shift"]
        return changed


def _variables(site: Site) -> tuple[Any, Any]:
    """Returns the norm's scale and shift, or None for one that it lacks."""
    from keras_peft.core.sites import own_variables

    named = {variable.name: variable for variable in own_variables(site.layer)}
    return named.get("gamma", named.get("scale")), named.get("beta", named.get("bias"))
