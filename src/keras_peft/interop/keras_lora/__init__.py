"""KerasHub's own LoRA: what `backbone.save_lora_weights("name.lora.h5")` writes.

`_file.py` reads the file, `_factors.py` writes Keras's factors of a kernel as those of its matrix,
`_beside.py` takes what the file lacks from a model that has it, `_read.py` puts them together, and
`_classifier.py` makes a bundle where the weights of a classifier lie beside it.
"""

from __future__ import annotations

from pathlib import Path

from keras_peft.interop.keras_lora._classifier import import_classifier
from keras_peft.interop.keras_lora._file import ENDING
from keras_peft.interop.keras_lora._read import import_keras_lora

__all__ = ["FORMAT", "LOOKS_LIKE", "import_", "import_keras_lora", "recognises"]

FORMAT = "keras-lora"
LOOKS_LIKE = (
    f"a file name{ENDING}, which KerasHub's save_lora_weights() writes, with name.weights.h5 beside it"
)
import_ = import_classifier


def recognises(path: Path) -> bool:
    """Tells whether a path is that of such a file, or a folder with one, by its name."""
    return path.name.endswith(ENDING) or (path.is_dir() and any(path.glob(f"*{ENDING}")))
