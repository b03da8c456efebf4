"""Parameter-efficient fine-tuning for Keras 3.

    adapted = keras_peft.adapt(model, keras_peft.LoRA(rank=8), layers="last:2")

    keras_peft.fine_tune("conversations.jsonl", out="my-bundle")
    keras_peft.load("my-bundle").predict(["Jon: Which model is faster?"])

The names below are imported on first use, so that `import keras_peft` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from keras_peft._version import __version__ as __version__

if TYPE_CHECKING:
    from keras_peft.adapter_files import load_adapter, save_adapter
    from keras_peft.arithmetic import Approximation, combine, convert_to_lora, reduce_rank
    from keras_peft.attach import adapt, detach
    from keras_peft.checking import check_data
    from keras_peft.core.adapted import AdaptedModel
    from keras_peft.core.adapter import Placement
    from keras_peft.core.plan import Plan
    from keras_peft.core.selection import Selection
    from keras_peft.data.examples import read_examples
    from keras_peft.data.synthesis import DataGeneration
    from keras_peft.errors import KerasPeftError
    from keras_peft.explanation import explain
    from keras_peft.interop.adapter_hub import export_adapter_hub, import_adapter_hub
    from keras_peft.interop.hf_model import export_hf_model, import_hf_model
    from keras_peft.interop.hf_peft import export_hf_peft, import_hf_peft, load_hf_peft, save_hf_peft
    from keras_peft.interop.keras_lora import import_keras_lora
    from keras_peft.methods.adalora import AdaLoRA
    from keras_peft.methods.bitfit import BitFit
    from keras_peft.methods.compacter import Compacter
    from keras_peft.methods.dora import DoRA
    from keras_peft.methods.full import FullFineTuning
    from keras_peft.methods.houlsby import Houlsby
    from keras_peft.methods.ia3 import IA3
    from keras_peft.methods.linear_probe import LinearProbe
    from keras_peft.methods.loha import LoHa
    from keras_peft.methods.lokr import LoKr
    from keras_peft.methods.lora import LoRA
    from keras_peft.methods.loreft import LoReFT
    from keras_peft.methods.norm import NormTuning
    from keras_peft.methods.oft import OFT
    from keras_peft.methods.p_tuning import PTuning
    from keras_peft.methods.p_tuning_v2 import PTuningV2
    from keras_peft.methods.parallel import Parallel
    from keras_peft.methods.pfeiffer import Pfeiffer
    from keras_peft.methods.pfeiffer_norm import PfeifferNorm
    from keras_peft.methods.prefix import PrefixTuning
    from keras_peft.methods.prompt import PromptTuning
    from keras_peft.methods.vera import VeRA
    from keras_peft.predict import Classifier, load
    from keras_peft.pushing import push
    from keras_peft.sources import load as load_base
    from keras_peft.training.fine_tune import fine_tune
    from keras_peft.training.folds import CrossValidation, cross_validate
    from keras_peft.training.rates import RateSearch, find_rate
    from keras_peft.training.settings import Settings

_HOMES = {
    "AdaLoRA": "methods.adalora",
    "AdaptedModel": "core.adapted",
    "Approximation": "arithmetic",
    "BitFit": "methods.bitfit",
    "Classifier": "predict",
    "CrossValidation": "training.folds",
    "Compacter": "methods.compacter",
    "DataGeneration": "data.synthesis",
    "DoRA": "methods.dora",
    "FullFineTuning": "methods.full",
    "Houlsby": "methods.houlsby",
    "IA3": "methods.ia3",
    "KerasPeftError": "errors",
    "LinearProbe": "methods.linear_probe",
    "LoHa": "methods.loha",
    "LoKr": "methods.lokr",
    "LoRA": "methods.lora",
    "LoReFT": "methods.loreft",
    "NormTuning": "methods.norm",
    "OFT": "methods.oft",
    "PTuning": "methods.p_tuning",
    "PTuningV2": "methods.p_tuning_v2",
    "Parallel": "methods.parallel",
    "Pfeiffer": "methods.pfeiffer",
    "PfeifferNorm": "methods.pfeiffer_norm",
    "Placement": "core.adapter",
    "Plan": "core.plan",
    "PrefixTuning": "methods.prefix",
    "PromptTuning": "methods.prompt",
    "RateSearch": "training.rates",
    "Selection": "core.selection",
    "Settings": "training.settings",
    "VeRA": "methods.vera",
    "adapt": "attach",
    "check_data": "checking",
    "combine": "arithmetic",
    "convert_to_lora": "arithmetic",
    "cross_validate": "training.folds",
    "detach": "attach",
    "explain": "explanation",
    "export_adapter_hub": "interop.adapter_hub",
    "export_hf_model": "interop.hf_model",
    "export_hf_peft": "interop.hf_peft",
    "find_rate": "training.rates",
    "fine_tune": "training.fine_tune",
    "import_adapter_hub": "interop.adapter_hub",
    "import_hf_model": "interop.hf_model",
    "import_hf_peft": "interop.hf_peft",
    "import_keras_lora": "interop.keras_lora",
    "load": "predict",
    "load_adapter": "adapter_files",
    "load_base": "sources",
    "load_hf_peft": "interop.hf_peft",
    "push": "pushing",
    "read_examples": "data.examples",
    "reduce_rank": "arithmetic",
    "save_adapter": "adapter_files",
    "save_hf_peft": "interop.hf_peft",
}
_NAMES = {"load_base": "load"}

__all__ = [
    "IA3",
    "OFT",
    "AdaLoRA",
    "AdaptedModel",
    "Approximation",
    "BitFit",
    "Classifier",
    "Compacter",
    "CrossValidation",
    "DataGeneration",
    "DoRA",
    "FullFineTuning",
    "Houlsby",
    "KerasPeftError",
    "LinearProbe",
    "LoHa",
    "LoKr",
    "LoRA",
    "LoReFT",
    "NormTuning",
    "PTuning",
    "PTuningV2",
    "Parallel",
    "Pfeiffer",
    "PfeifferNorm",
    "Placement",
    "Plan",
    "PrefixTuning",
    "PromptTuning",
    "RateSearch",
    "Selection",
    "Settings",
    "VeRA",
    "adapt",
    "check_data",
    "combine",
    "convert_to_lora",
    "cross_validate",
    "detach",
    "explain",
    "export_adapter_hub",
    "export_hf_model",
    "export_hf_peft",
    "find_rate",
    "fine_tune",
    "import_adapter_hub",
    "import_hf_model",
    "import_hf_peft",
    "import_keras_lora",
    "load",
    "load_adapter",
    "load_base",
    "load_hf_peft",
    "push",
    "read_examples",
    "reduce_rank",
    "save_adapter",
    "save_hf_peft",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_peft' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"keras_peft.{_HOMES[name]}"), _NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
