"""The adapters that are served: a few trained ones, and many variants of them.

python -m benchmarks.serving.bundles FOLDER --data DATA

FOLDER/trained/      lora, pfeiffer, ia3, bitfit; and three other methods, trained briefly
FOLDER/served/       64 LoRAs and 16 of each other method
FOLDER/labels.json   the labels that `keras_peft.load` predicts for some texts with some of them
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.speed import texts

import keras_peft
from keras_peft import bundle as bundles
from keras_peft import methods
from keras_peft.core.weights import read_tensors, write_tensors
from keras_peft.files import whole_folder

from .plan import COUNTS, FANNED, FANNED_MIXED, LORAS, MAX_LENGTH, NEW_KINDS, name_of

EPOCHS = 3
# The new kinds are only loaded, so a short training run is enough.
_NEW_ROWS = 128
# Standard deviation of the variants' noise, relative to that of each tensor.
_DISTANCE = 0.05
# Number of texts with a known label.
_CHECKED_TEXTS = 48
# Where two labels are almost equally likely, rounding may decide.
_MARGIN = 0.02


def make(folder: Path, data: Path) -> None:
    """Trains and writes the missing bundles."""
    trained, served, right = folder / "trained", folder / "served", folder / "labels.json"
    for method in COUNTS:
        if not (trained / method).is_dir():
            _train(method, data / "train.jsonl", trained / method, epochs=EPOCHS)
    with tempfile.TemporaryDirectory() as scratch:
        few = Path(scratch) / "few.jsonl"
        rows = texts.read(data).train[:_NEW_ROWS]
        few.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        for method in NEW_KINDS:
            if not (trained / method).is_dir():
                _train(method, few, trained / method, epochs=1)
    if right.is_file():
        return
    for method, count in COUNTS.items():
        for number in range(count):
            vary(bundles.read(trained / method), served / name_of(method, number), number)
    checked = [row["text"] for row in texts.read(data).test[:_CHECKED_TEXTS]]
    # Some of each method, and those that the scenes use.
    names = dict.fromkeys([*FANNED, *FANNED_MIXED, LORAS[-1]])
    answers = {name: answers_of(served / name, checked) for name in names}
    answers |= {kind: answers_of(trained / kind, checked) for kind in NEW_KINDS}
    right.write_text(json.dumps(answers, indent=1), encoding="utf-8")


def _train(method: str, rows: Path, out: Path, *, epochs: int) -> None:
    keras_peft.fine_tune(
        rows, out=out, method=methods.find(method)(), epochs=epochs, max_length=MAX_LENGTH, track=[]
    )


def vary(trained: bundles.Bundle, folder: Path, number: int) -> None:
    """Writes a variant of a trained bundle with its own weights.

    In every second variant the labels are swapped, so that an answer of the wrong adapter is noticed.
    """
    generator = np.random.default_rng(number)
    tensors = read_tensors(trained.folder / "adapter.safetensors")
    outputs = len(trained.labels)
    for key, value in tensors.items():
        value = value + _DISTANCE * value.std() * generator.normal(size=value.shape)
        if number % 2 and key.startswith("head/") and value.shape[-1] == outputs:
            value = value[..., ::-1]
        tensors[key] = value.astype(np.float32)
    # The variant is not verified, and the metrics of the trained bundle do not apply to it.
    content: dict[str, Any] = {**trained.content, "metrics": {}, "verification": {}}
    with whole_folder(folder.absolute(), overwrite=True) as staging:
        for name in bundles.FILES:
            if (trained.folder / name).is_file():
                shutil.copy(trained.folder / name, staging / name)
        write_tensors(staging / "adapter.safetensors", tensors)
        bundles.seal(staging, content)


def answers_of(folder: Path, asked: list[str]) -> dict[str, str]:
    """Returns the predicted labels of the texts for which the adapter is certain."""
    found = {}
    for text, prediction in zip(asked, keras_peft.load(folder).predict(asked), strict=True):
        first, second, *_ = prediction.probabilities.values()
        if first - second > _MARGIN:
            found[text] = prediction.label
    return found


def main() -> None:
    """Parses the command line and writes the bundles."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    options.folder.mkdir(parents=True, exist_ok=True)
    make(options.folder, options.data)


if __name__ == "__main__":
    main()
