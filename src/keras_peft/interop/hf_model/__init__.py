"""Import and export of whole classifiers of Hugging Face's transformers.

`_read.py` converts a checkpoint to a bundle of its head, with the checkpoint itself as the base model.
`_write.py` merges a bundle's adapter into its base model and writes a checkpoint.
"""

from __future__ import annotations

from pathlib import Path

from keras_peft.interop.hf_model._read import import_hf_model
from keras_peft.interop.hf_model._write import export_hf_model
from keras_peft.json_files import JsonError, read_object

__all__ = ["export_hf_model", "import_hf_model", "recognises"]

FORMAT = "hf-model"
LOOKS_LIKE = "a folder with config.json, model.safetensors and tokenizer.json, saved by transformers"
import_, export = import_hf_model, export_hf_model


def recognises(path: Path) -> bool:
    """Returns whether a path is a folder with a transformers checkpoint and no PEFT adapter."""
    if (path / "adapter_config.json").exists() or not any(path.glob("*model*")):
        return False
    try:
        return "model_type" in read_object(path / "config.json")
    except (OSError, JsonError):
        return False
