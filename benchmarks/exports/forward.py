"""Times forward passes of a bundle or an export, in a process of its own.

    python -m benchmarks.exports.forward FOLDER --texts FILE [--engine keras]

Prints one line of JSON: the least milliseconds for batches of some shapes, and texts per second including tokenising,
in batches and one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

import keras_peft

SHAPES = ((1, 20), (8, 20), (16, 64))
SECONDS = 1.5
_ALONE = 150


def least(call: Callable[[], Any]) -> float:
    """Calls a function repeatedly and returns the least milliseconds."""
    call()
    best, until = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return 1000 * best


def batch(rows: int, length: int) -> dict[str, np.ndarray]:
    """Makes a batch of random tokens without padding."""
    ids = np.random.default_rng(0).integers(1000, 20_000, (rows, length)).astype(np.int32)
    return {"token_ids": ids, "padding_mask": np.ones_like(ids)}


def main() -> None:
    """Reads the command line and prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--engine", default="auto")
    options = parser.parse_args()
    classifier = keras_peft.load(options.folder, engine=options.engine)
    texts = [json.loads(line)["text"] for line in options.texts.read_text(encoding="utf-8").splitlines()]
    found: dict[str, float] = {}
    for rows, length in SHAPES:
        inputs = batch(rows, length)
        found[f"{rows}x{length}"] = least(lambda inputs=inputs: classifier.run(inputs, once=False))
    read = classifier.read_all(texts)
    found["texts_per_second"] = 1000 * len(read) / least(lambda: classifier.outputs(read))
    some = read[:_ALONE]
    found["alone_per_second"] = 1000 * len(some) / least(lambda: [classifier.outputs([one]) for one in some])
    print(json.dumps(found))


if __name__ == "__main__":
    main()
