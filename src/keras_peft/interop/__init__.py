"""Import and export of other libraries' formats, one module or package each.

All import and export functions are available from this package and are loaded on first use:
`keras_peft.interop.export_adapter_hub`.

`forms.py` finds the formats and documents their interface. Modules whose names begin with `_` contain code that
several formats share.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_peft.interop._exporting import Exported
    from keras_peft.interop.adapter_hub import export_adapter_hub, import_adapter_hub
    from keras_peft.interop.hf_model import export_hf_model, import_hf_model
    from keras_peft.interop.hf_peft import export_hf_peft, import_hf_peft, load_hf_peft, save_hf_peft
    from keras_peft.interop.keras_lora import import_keras_lora
    from keras_peft.interop.sentence_transformers import export_sentence_transformers

_HOMES = {
    "Exported": "_exporting",
    "export_adapter_hub": "adapter_hub",
    "export_hf_model": "hf_model",
    "export_hf_peft": "hf_peft",
    "export_sentence_transformers": "sentence_transformers",
    "import_adapter_hub": "adapter_hub",
    "import_hf_model": "hf_model",
    "import_hf_peft": "hf_peft",
    "import_keras_lora": "keras_lora",
    "load_hf_peft": "hf_peft",
    "save_hf_peft": "hf_peft",
}

__all__ = [
    "Exported",
    "export_adapter_hub",
    "export_hf_model",
    "export_hf_peft",
    "export_sentence_transformers",
    "import_adapter_hub",
    "import_hf_model",
    "import_hf_peft",
    "import_keras_lora",
    "load_hf_peft",
    "save_hf_peft",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__]
