"""The trained model, which has the biases and the head that a LoRA file lacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_peft.core.sites import Site, own_variables
from keras_peft.errors import AdapterError, listed
from keras_peft.interop.keras_lora._file import Factors

# Allowed rounding error of a kernel with LoRA added, relative to its largest value: a few ulps of the dtype.
_ROUNDING = {"float16": 2**-8, "bfloat16": 2**-6}
_ROUNDING_OF_FLOAT32 = 2**-19
_OWN = ("lora_kernel_a", "lora_kernel_b")


@dataclass(frozen=True)
class TrainedBackbone:
    """A copy of the backbone after training.

    Attributes:
        layers: The layers that have weights, in order.
    """

    layers: list[keras.Layer]

    def strength(self, number: int) -> float | None:
        """Returns the alpha of a layer's LoRA, or None if LoRA is not enabled there."""
        layer: Any = self.layers[number] if number < len(self.layers) else None
        return float(layer.lora_alpha) if getattr(layer, "lora_enabled", False) else None

    def refuse_unlike(
        self, sites: list[Site], factors: Mapping[int, Factors], scalings: Mapping[int, float]
    ) -> None:
        """Checks that the model is the base model with the file's LoRA, apart from biases of LoRA layers.

        Args:
            sites: The base model's layers that have weights.
            factors: The file's factors by layer number.
            scalings: Scaling of the factors' product by layer number.

        Raises:
            AdapterError: If anything else differs; the message lists all differences.
        """
        ours = [(site.layer.name, _shapes(site.layer)) for site in sites]
        if ours != [(layer.name, _shapes(layer)) for layer in self.layers]:
            raise AdapterError(
                "The model given with trained_model= has different layers than the base; pass the one that the LoRA "
                "was trained in, and a base built in the same way."
            )
        problems, kernels = [], []
        for number, (site, layer) in enumerate(zip(sites, self.layers, strict=True)):
            if getattr(layer, "lora_enabled", False) and number not in factors:
                problems.append(f"{site.path} has LoRA that is not in the file")
                continue
            own = {variable.name: variable for variable in own_variables(site.layer)}
            for name, value in _values(layer).items():
                before = _array(own[name])
                if number not in factors:
                    if not np.array_equal(before, value):
                        problems.append(f"{site.path}/{name} differs from the base's")
                elif name == "kernel":
                    update = scalings[number] * factors[number].product()
                    if not _is_close(layer.kernel, before + update, value):
                        kernels.append(site.path)
        if kernels:
            problems.append(
                f"the kernels of {listed(kernels, most=4)} are not the base's plus the file's LoRA; save the LoRA "
                "after its last training, and pass alpha= if it is not the rank"
            )
        if problems:
            raise AdapterError(
                f"The model given with trained_model= is not this base plus the file's LoRA: {'; '.join(problems)}."
            )

    def bias(self, number: int, site: Site) -> np.ndarray | None:
        """Returns the change of a layer's bias in training, flattened, or None if it did not change."""
        if getattr(site.layer, "bias", None) is None:
            return None
        moved = _array(self.layers[number].bias) - _array(site.layer.bias)
        return moved.reshape(-1) if moved.any() else None


def _values(layer: keras.Layer) -> dict[str, np.ndarray]:
    """Returns a layer's own values without LoRA's factors; the kernel includes LoRA."""
    values = {v.name: _array(v) for v in own_variables(layer) if v.name not in _OWN}
    if getattr(layer, "lora_enabled", False):
        values["kernel"] = _array(layer.kernel)
    return values


def _shapes(layer: keras.Layer) -> dict[str, tuple[int, ...]]:
    return {v.name: tuple(v.shape) for v in own_variables(layer) if v.name not in _OWN}


def _is_close(variable: Any, expected: np.ndarray, value: np.ndarray) -> bool:
    share = _ROUNDING.get(keras.backend.standardize_dtype(variable.dtype), _ROUNDING_OF_FLOAT32)
    return bool(np.abs(expected - value).max() <= share * np.abs(value).max())


def _array(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable), np.float32)
