"""Parameter-efficient fine-tuning for Keras 3.

    adapted = keras_peft.adapt(model, keras_peft.LoRA(rank=8), layers="last:2")

    keras_peft.fine_tune("conversations.jsonl", out="my-bundle")
    keras_peft.load("my-bundle").predict(["Jon: Which model is faster?"])

The names below are imported on first use, so that `import keras_peft` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_peft.attach import adapt, detach
    from keras_peft.core.adapted import AdaptedModel, Plan
    from keras_peft.data import read_examples
    from keras_peft.errors import KerasPeftError
    from keras_peft.job import fine_tune
    from keras_peft.methods.lora import LoRA
    from keras_peft.predict import Classifier, load
    from keras_peft.sources import load as load_base

__version__ = "0.1.0"

_HOMES = {
    "AdaptedModel": "core.adapted",
    "Classifier": "predict",
    "KerasPeftError": "errors",
    "LoRA": "methods.lora",
    "Plan": "core.adapted",
    "adapt": "attach",
    "detach": "attach",
    "fine_tune": "job",
    "load": "predict",
    "load_base": "sources",
    "read_examples": "data",
}
_NAMES = {"load_base": "load"}

__all__ = [
    "AdaptedModel",
    "Classifier",
    "KerasPeftError",
    "LoRA",
    "Plan",
    "adapt",
    "detach",
    "fine_tune",
    "load",
    "load_base",
    "read_examples",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_peft' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"keras_peft.{_HOMES[name]}"), _NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
