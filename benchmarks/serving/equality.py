"""Compares rows of many adapters in one batch with each row alone, on the engine without a server.

python -m benchmarks.serving.equality FOLDER --seed 0 < texts.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from keras_peft import bundle as bundles
from keras_peft import sources
from keras_peft.serve.engines.onnx import Engine
from keras_peft.serve.loaded_adapter import AdapterRow
from keras_peft.serve.loading import load
from keras_peft.serve.tokenizers import Tokenizers

from .plan import MIXED

BATCHES, ROWS = 8, 64


def compare(folder: Path, texts: list[str], seed: int) -> dict[str, float]:
    """Returns the largest difference between logits, and the number of rows."""
    draw = random.Random(seed)
    engine = Engine(sources.load_weights(bundles.read(folder / MIXED[0]).base_name))
    tokenizers = Tokenizers()
    adapters = [load(folder / name, name, 1, engine, tokenizers) for name in MIXED]
    largest = highest = 0.0
    for _ in range(BATCHES):
        chosen = [(draw.choice(texts), draw.choice(adapters)) for _ in range(ROWS)]
        rows = [AdapterRow(adapter.tokenizer([text]).ids[0], adapter) for text, adapter in chosen]
        for together, row in zip(engine.run(rows), rows, strict=True):
            (alone,) = engine.run([row])
            largest = max(largest, float(np.abs(together - alone).max()))
            highest = max(highest, float(np.abs(alone).max()))
    return {"difference": largest, "rows": BATCHES * ROWS, "adapters": len(adapters), "largest": highest}


def main() -> None:
    """Reads the command line and the texts, and prints one line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(json.dumps(compare(options.folder, json.load(sys.stdin), options.seed)))


if __name__ == "__main__":
    main()
