"""(IA)³: multiplies keys, values and the inner feed-forward units by learned vectors.

Liu et al. 2022, "Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than
In-Context Learning", https://arxiv.org/abs/2205.05638, section 3.3.
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
class IA3(Method):
    """Scales the keys, the values and the inputs of the second feed-forward projection.

    At keys and values, y = (x W + b) · l with l of shape (out,). At `ffn.down` and
    `attention.output`, y = (x · l) W + b with l of shape (in,); at `ffn.down` this scales
    the inner units after their activation. l starts at one, so a new adapter does not
    change the outputs.

    Parameters: out, or in, per projection.

    Example:
        >>> model = keras_peft.adapt(base, keras_peft.IA3(), layers="last:2")
    """

    name: ClassVar[str] = "ia3"
    title: ClassVar[str] = "(IA)³"
    paper: ClassVar[str] = "Liu et al. 2022, https://arxiv.org/abs/2205.05638"
    default_targets: ClassVar[tuple[str, ...]] = ("attention.key", "attention.value", "ffn.down")
    learning_rate: ClassVar[float] = 3e-2
    merges: ClassVar[bool] = True
    linear: ClassVar[bool] = True
    hugging_face: ClassVar[str | None] = "IA3"

    def weights(self, site: Site) -> Mapping[str, Weight]:
        from keras_peft.core.places import matrix_view

        view = matrix_view(site)
        return {"scale": Weight((view.inputs if _scales_inputs(site) else view.outputs,), "ones")}

    def wrap_call(self, weights: WeightView, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        from keras_peft.core.batched_weights import align
        from keras_peft.core.intercept import split_inputs
        from keras_peft.core.projection import linear_projection, projection

        inputs, rest = split_inputs(args, kwargs)
        if _scales_inputs(weights.site):
            linear = linear_projection(weights.site)
            x = linear.flatten(inputs)
            return call(linear.unflatten(x * align(weights.scale, x)), *rest, **kwargs)
        view = projection(weights.site)
        return view.run(call, lambda y: y * align(weights.scale, y), inputs, *rest, **kwargs)

    def merged(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Mapping[str, np.ndarray]:
        from keras_peft.core.places import matrix_view

        view, scale = matrix_view(site), weights["scale"]
        matrix = view.matrix_from(values)
        if _scales_inputs(site):
            scaled: dict[str, np.ndarray] = view.kernels_from(matrix * scale[:, None])
            return scaled
        changed: dict[str, np.ndarray] = view.kernels_from(matrix * scale)
        if "bias" in values:
            changed["bias"] = values["bias"] * scale.reshape(view.bias_shape)
        return changed

    def effect(
        self, site: Site, weights: Mapping[str, np.ndarray], values: Mapping[str, np.ndarray]
    ) -> Affine:
        from keras_peft.core.effects import Affine

        scale = weights["scale"]
        return Affine(input_scale=scale) if _scales_inputs(site) else Affine(output_scale=scale)


def _scales_inputs(site: Site) -> bool:
    return site.role in ("ffn.down", "attention.output")
