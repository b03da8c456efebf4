"""KerasHub's own LoRA: what `backbone.save_lora_weights("name.lora.h5")` writes.

`_file.py` reads the file, `_factors.py` writes Keras's factors of a kernel as those of its matrix,
`_beside.py` takes what the file lacks from a model that has it, and `_read.py` puts them together.
"""

from __future__ import annotations

from pathlib import Path

from keras_peft.interop.keras_lora._file import ENDING
from keras_peft.interop.keras_lora._read import import_keras_lora

__all__ = ["FORMAT", "import_keras_lora", "recognises"]

FORMAT = "keras-lora"


def recognises(path: Path) -> bool:
    """Tells whether a path is that of such a file, by its name."""
    return path.name.endswith(ENDING)
