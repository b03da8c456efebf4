"""BitFit: trains only the bias terms.

Ben Zaken et al. 2021, "BitFit: Simple Parameter-efficient Fine-tuning for
Transformer-based Masked Language-models", https://arxiv.org/abs/2106.10199.
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
class BitFit(Method):
    """Adds a trainable vector to each bias of the base.

    Computes y = x W + (b + Δ) before the activation, and adds Δ to the shift of a norm in
    the same way. Δ has the size of the bias and starts at zero, so a new adapter does not
    change the outputs. The base's own biases stay as they are, so several adapters can
    share a base and a batch. The bias of the keys is not a default target, because softmax
    cancels it. Layers without a bias are skipped. A base without any bias, such as Llama,
    raises an error.

    Parameters: one per bias value.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.BitFit(), layers="all")
    """

    name: ClassVar[str] = "bitfit"
    title: ClassVar[str] = "BitFit"
    paper: ClassVar[str] = "Ben Zaken et al. 2021, https://arxiv.org/abs/2106.10199"
    default_targets: ClassVar[tuple[str, ...]] = (
        "attention.query",
        "attention.value",
        "attention.output",
        "ffn.up",
        "ffn.gate",
        "ffn.down",
        "norm",
    )
    default_layers: ClassVar[str] = "all"
    learning_rate: ClassVar[float] = 3e-3
    merges: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    hugging_face: ClassVar[str | None] = "BEFT"

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.core.axis_sizes import flattened

        shape = _bias_shape(site)
        return {} if shape is None else {"bias": Weight((flattened(shape),), "zeros")}

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core.batched_weights import align
        from keras_peft.core.intercept import before_activation, split_inputs
        from keras_peft.core.projection import projection

        layer = weights.site.layer
        inputs, rest = split_inputs(args, kwargs)
        if isinstance(layer, _layers_with_matrix()):
            view = projection(weights.site)
            return view.run(call, lambda y: y + align(weights.bias, y), inputs, *rest, **kwargs)
        with before_activation(layer) as activation:
            outputs = call(inputs, *rest, **kwargs)
        return activation(outputs + align(weights.bias, outputs))

    def merged(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        name = "bias" if "bias" in values else "beta"
        return {name: values[name] + weights["bias"].reshape(values[name].shape)}

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Affine:
        from keras_peft.core.effects import Affine

        return Affine(bias=weights["bias"])


def _bias_shape(site: Site) -> tuple[int, ...] | None:
    from keras_peft.errors import SelectionError

    shapes = site.shapes
    bias = shapes.get("bias", shapes.get("beta"))
    if bias is None:
        return None
    if "recurrent_kernel" in shapes:
        raise SelectionError(
            f"{site.path} adds its bias in every step, which {BitFit.name} cannot do; use FullFineTuning there, "
            "or choose other targets."
        )
    layer = getattr(site, "layer", None)  # A `Place` has none.
    is_channels_first = getattr(layer, "data_format", None) == "channels_first"
    if is_channels_first and not isinstance(layer, _layers_with_matrix()):
        raise SelectionError(
            f"{site.path} has its channels first, which {BitFit.name} supports in Conv1D to Conv3D only; "
            "use FullFineTuning there, or choose other targets."
        )
    return bias


def _layers_with_matrix() -> tuple[type, ...]:
    import keras

    layers = keras.layers
    return layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.Conv3D
