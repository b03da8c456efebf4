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

    from keras_peft.core.effects import Affine
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
                f"{site.path} is a {site.kind} without the role 'norm'; choose targets that are "
                "norms, or give your own norms this role with `roles`."
            )
        scale, shift = _names(site.shapes)
        weights = {}
        if scale is not None:
            weights["scale"] = Weight(site.shapes[scale], "ones")
        if shift is not None:
            weights["shift"] = Weight(site.shapes[shift], "zeros")
        return weights

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core.batched_weights import align

        scale, shift = _names(weights.site.shapes)
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

        layer = getattr(site, "layer", None)  # A `Place` has none.
        if layer is not None and not type(layer).__module__.startswith("keras.src.layers"):
            raise AdapterError(
                f"{site.path} is a {type(layer).__name__}, whose use of the scale is unknown, so norm "
                "tuning cannot be merged into it."
            )
        changed = {}
        factor = weights.get("scale", 1.0)
        scale, shift = _names(values)
        if scale is not None:
            changed[scale] = values[scale] * factor
        if shift is not None:
            changed[shift] = values[shift] * factor + weights["shift"]
        return changed

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Affine:
        from keras_peft.core.effects import Affine

        return Affine(output_scale=weights.get("scale"), bias=weights.get("shift"))


def _names(values: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Returns the names of a norm's scale and shift, or None for one that it lacks."""

    def first(*names: str) -> str | None:
        return next((name for name in names if name in values), None)

    return first("gamma", "scale"), first("beta", "bias")
