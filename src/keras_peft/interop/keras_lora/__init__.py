"""Import of KerasHub's own LoRA, the files of `backbone.save_lora_weights("name.lora.h5")`.

`_file.py` reads the file, `_factors.py` converts Keras's factors of a kernel to those of its matrix,
`_trained_backbone.py` takes the biases and the head, which the file lacks, from the trained model, `_read.py` adapts a
model, and `_classifier.py` writes a bundle if the weights of a classifier are next to the file.
"""

from __future__ import annotations

from pathlib import Path

from keras_peft.interop.keras_lora._classifier import import_classifier
from keras_peft.interop.keras_lora._file import ENDING
from keras_peft.interop.keras_lora._read import import_keras_lora

__all__ = ["FORMAT", "LOOKS_LIKE", "import_", "import_keras_lora", "recognises"]

FORMAT = "keras-lora"
LOOKS_LIKE = (
    f"a file name{ENDING}, written by KerasHub's save_lora_weights(), with name.weights.h5 in its folder"
)
import_ = import_classifier


def recognises(path: Path) -> bool:
    """Returns whether a path is a KerasHub LoRA file or a folder with one, judged by file name."""
    return path.name.endswith(ENDING) or (path.is_dir() and any(path.glob(f"*{ENDING}")))
