"""Whole classifiers of Hugging Face's transformers, in and out.

`_read.py` makes a bundle of one, which is its head on a base that is the checkpoint itself; `_write.py` folds a
bundle's adapter into its base and writes both as a checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path

from keras_peft.interop.hf_model._read import import_hf_model
from keras_peft.interop.hf_model._write import export_hf_model

__all__ = ["export_hf_model", "import_hf_model", "recognises"]

FORMAT = "hf-model"
LOOKS_LIKE = "a folder with config.json, model.safetensors and tokenizer.json, which transformers saves"
import_, export = import_hf_model, export_hf_model


def recognises(path: Path) -> bool:
    """Tells whether a path is a folder with a checkpoint of transformers, and no adapter for one."""
    if (path / "adapter_config.json").exists() or not any(path.glob("*model*")):
        return False
    try:
        return "model_type" in json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False
