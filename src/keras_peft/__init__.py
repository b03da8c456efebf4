"""Parameter-efficient fine-tuning for Keras 3.

    adapted = keras_peft.adapt(model, keras_peft.LoRA(rank=8), layers="last:2")

    keras_peft.fine_tune("conversations.jsonl", out="my-bundle")
    keras_peft.load("my-bundle").predict(["Jon: Which model is faster?"])

The names below are imported on first use, which keeps `import keras_peft` fast. All methods are in
`keras_peft.methods`; readers and writers for the file formats of other libraries are in
`keras_peft.interop`.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from keras_peft._version import __version__ as __version__

if TYPE_CHECKING:
    from keras_peft import interop, methods
    from keras_peft.adapter_files import load_adapter, save_adapter
    from keras_peft.arithmetic import Approximation, combine, convert_to_lora, reduce_rank
    from keras_peft.attach import adapt, detach
    from keras_peft.checking import check_data
    from keras_peft.comparing.compare import Comparison, compare
    from keras_peft.core.placement import Placement
    from keras_peft.core.plan import Plan
    from keras_peft.core.selection import Selection
    from keras_peft.data.examples import read_examples
    from keras_peft.data.synthesis import DataGeneration
    from keras_peft.errors import KerasPeftError
    from keras_peft.explanation import explain
    from keras_peft.forms import export
    from keras_peft.interop.hf_peft import export_hf_peft, import_hf_peft
    from keras_peft.keras_files import AdaptedModel
    from keras_peft.labelling import RowsToLabel, rows_to_label
    from keras_peft.many import Classifiers, load_many
    from keras_peft.merging import merge
    from keras_peft.methods.adalora import AdaLoRA
    from keras_peft.methods.bitfit import BitFit
    from keras_peft.methods.dora import DoRA
    from keras_peft.methods.full import FullFineTuning
    from keras_peft.methods.ia3 import IA3
    from keras_peft.methods.linear_probe import LinearProbe
    from keras_peft.methods.lora import LoRA
    from keras_peft.methods.prefix import PrefixTuning
    from keras_peft.methods.prompt import PromptTuning
    from keras_peft.predict import Classifier, load, load_bundle
    from keras_peft.pushing import push
    from keras_peft.sharding.result import PredictedFiles
    from keras_peft.sharding.run import predict_files
    from keras_peft.sources import load as load_base
    from keras_peft.sweeping.result import Sweep
    from keras_peft.sweeping.sweep import sweep
    from keras_peft.training.fine_tune import fine_tune
    from keras_peft.training.folds import CrossValidation, cross_validate
    from keras_peft.training.rates import RateSearch, find_rate
    from keras_peft.training.settings import Settings

_HOMES = {
    "AdaLoRA": "methods.adalora",
    "AdaptedModel": "keras_files",
    "Approximation": "arithmetic",
    "BitFit": "methods.bitfit",
    "Classifier": "predict",
    "Classifiers": "many",
    "Comparison": "comparing.compare",
    "CrossValidation": "training.folds",
    "DataGeneration": "data.synthesis",
    "DoRA": "methods.dora",
    "FullFineTuning": "methods.full",
    "IA3": "methods.ia3",
    "KerasPeftError": "errors",
    "LinearProbe": "methods.linear_probe",
    "LoRA": "methods.lora",
    "Placement": "core.placement",
    "Plan": "core.plan",
    "PredictedFiles": "sharding.result",
    "PrefixTuning": "methods.prefix",
    "PromptTuning": "methods.prompt",
    "RateSearch": "training.rates",
    "RowsToLabel": "labelling",
    "Selection": "core.selection",
    "Settings": "training.settings",
    "Sweep": "sweeping.result",
    "adapt": "attach",
    "check_data": "checking",
    "combine": "arithmetic",
    "compare": "comparing.compare",
    "convert_to_lora": "arithmetic",
    "cross_validate": "training.folds",
    "detach": "attach",
    "explain": "explanation",
    "export": "forms",
    "export_hf_peft": "interop.hf_peft",
    "find_rate": "training.rates",
    "fine_tune": "training.fine_tune",
    "import_hf_peft": "interop.hf_peft",
    "load": "predict",
    "load_adapter": "adapter_files",
    "load_base": "sources",
    "load_bundle": "predict",
    "load_many": "many",
    "merge": "merging",
    "predict_files": "sharding.run",
    "push": "pushing",
    "read_examples": "data.examples",
    "reduce_rank": "arithmetic",
    "rows_to_label": "labelling",
    "save_adapter": "adapter_files",
    "sweep": "sweeping.sweep",
}
_NAMES = {"load_base": "load"}
_NAMESPACES = ("interop", "methods")

__all__ = [
    "IA3",
    "AdaLoRA",
    "AdaptedModel",
    "Approximation",
    "BitFit",
    "Classifier",
    "Classifiers",
    "Comparison",
    "CrossValidation",
    "DataGeneration",
    "DoRA",
    "FullFineTuning",
    "KerasPeftError",
    "LinearProbe",
    "LoRA",
    "Placement",
    "Plan",
    "PredictedFiles",
    "PrefixTuning",
    "PromptTuning",
    "RateSearch",
    "RowsToLabel",
    "Selection",
    "Settings",
    "Sweep",
    "adapt",
    "check_data",
    "combine",
    "compare",
    "convert_to_lora",
    "cross_validate",
    "detach",
    "explain",
    "export",
    "export_hf_peft",
    "find_rate",
    "fine_tune",
    "import_hf_peft",
    "interop",
    "load",
    "load_adapter",
    "load_base",
    "load_bundle",
    "load_many",
    "merge",
    "methods",
    "predict_files",
    "push",
    "read_examples",
    "reduce_rank",
    "rows_to_label",
    "save_adapter",
    "sweep",
]


def __getattr__(name: str) -> Any:
    if name in _NAMESPACES:
        return importlib.import_module(f"keras_peft.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'keras_peft' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"keras_peft.{_HOMES[name]}"), _NAMES.get(name, name))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


if sys.modules.get("keras") is not None:
    # So that Keras can load adapted models from its own files.
    importlib.import_module("keras_peft.keras_files")
