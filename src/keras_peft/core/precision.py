"""Products of frozen layers in bfloat16, on machines where this is faster.

Only products with frozen matrices, nearly all of the work, use bfloat16. Biases, norms, softmax,
trainable weights and their gradients keep their precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import keras
from keras import ops

from keras_peft.core import intercept
from keras_peft.core.linear_layers import is_linear
from keras_peft.core.projection import linear_projection
from keras_peft.core.sites import Site
from keras_peft.errors import SelectionError

# Processor flags for bfloat16 instructions.
_ABLE = {"avx512_bf16", "amx_bf16"}


def bfloat16_wrappers(
    sites: Iterable[Site], touched: Sequence[keras.Layer]
) -> list[tuple[keras.Layer, intercept.Wrapper]]:
    """Returns wrappers that make frozen projections multiply in bfloat16.

    Args:
        sites: All sites of a base.
        touched: Layers that an adapter wraps or trains; they are skipped.

    Returns:
        Layers and their wrappers, to attach inside of all others.
    """
    skipped = {id(layer) for layer in touched}
    return [
        (site.layer, _in_bfloat16(site))
        for site in sites
        if id(site.layer) not in skipped and _is_float32_projection(site)
    ]


@cache
def multiplies_bfloat16(processor: Path = Path("/proc/cpuinfo")) -> bool:
    """Returns whether the processor has bfloat16 instructions and the backend uses them.

    It reads the processor's flags and measures nothing, so that runs are reproducible.

    Args:
        processor: File in which the system describes the processor.
    """
    if keras.config.backend() != "tensorflow":
        return False
    try:
        described = processor.read_text()
    except OSError:  # not Linux
        return False
    return not _ABLE.isdisjoint(described.split())


def _in_bfloat16(site: Site) -> intercept.Wrapper:
    view, layer = linear_projection(site), site.layer
    kernel = ops.reshape(
        ops.transpose(ops.convert_to_tensor(layer.kernel), view.order), (view.inputs, view.outputs)
    )
    matrix = keras.Variable(ops.cast(kernel, "bfloat16"), trainable=False, dtype="bfloat16", name="lowered")

    def wrapper(call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        inputs, _ = intercept.split_inputs(args, kwargs)
        flat = ops.cast(view.flatten(inputs), "bfloat16")
        outputs = ops.cast(ops.matmul(flat, matrix), layer.compute_dtype) + view.bias()
        lead = ops.shape(inputs)[: len(inputs.shape) - view.summed]
        activation = getattr(layer, "activation", None) or keras.activations.linear
        return activation(ops.reshape(outputs, (*lead, *view.shape[view.summed :])))

    return wrapper


def _is_float32_projection(site: Site) -> bool:
    if not is_linear(site.layer) or str(site.layer.kernel.dtype) != "float32":
        return False
    if site.layer.compute_dtype != "float32":
        return False
    try:
        linear_projection(site)
    except SelectionError:  # not a product with one matrix
        return False
    return True
