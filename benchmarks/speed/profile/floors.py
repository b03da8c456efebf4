"""The highest speed of this processor, measured: matrix products and copies of large arrays.

    python -m benchmarks.speed.profile.floors

prints one JSON object. It runs in a process of its own, with the same threads as the job.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable

SIZE = 2048
_SECONDS = 1.0


def main() -> None:
    """Measures and prints."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import numpy as np
    import tensorflow as tf

    found = {}
    for dtype in ("float32", "bfloat16"):
        matrix = tf.cast(tf.random.normal((SIZE, SIZE)), dtype)
        product = tf.function(lambda one: tf.matmul(one, one))
        found[dtype] = 2 * SIZE**3 / _least(lambda run=product, one=matrix: run(one).numpy())
    source, target = np.ones(1 << 26, np.float32), np.empty(1 << 26, np.float32)
    # A copy reads and writes each byte.
    found["bytes"] = 2 * source.nbytes / _least(lambda: np.copyto(target, source))
    print(json.dumps(found))


def _least(run: Callable[[], object]) -> float:
    """Returns the least seconds of some runs."""
    run()
    least, began = float("inf"), time.perf_counter()
    while time.perf_counter() - began < _SECONDS:
        one = time.perf_counter()
        run()
        least = min(least, time.perf_counter() - one)
    return least


if __name__ == "__main__":
    main()
