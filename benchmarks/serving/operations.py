"""Profiles a batch by TensorFlow operation, and compares its matrix products with the processor's speed.

    python -m benchmarks.serving.operations --rows 10 --tokens 20
    python -m benchmarks.serving.operations --precision bfloat16

One LoRA adapter, one thread, the graph that the server runs. Sums by kind of operation, medians over runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from keras_peft import bundle as bundles
from keras_peft import sources
from keras_peft.runtime.inference import Inference
from keras_peft.serve.engines.keras import Engine
from keras_peft.serve.loaded_adapter import AdapterRow
from keras_peft.serve.loading import load
from keras_peft.serve.tokenizers import Tokenizers

from .plan import ONE
from .servers import ROOT

RUNS, SHOWN = 30, 12
PRODUCTS = ("MatMul", "Einsum")


def measure(served: Path, *, rows: int, tokens: int, precision: str) -> None:
    """Prints the operations of the blocks below and above the adapter, and the speed of the processor."""
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    engine = Engine(sources.load(bundles.read(served / ONE).base_name), precision=precision)
    adapter = load(served / ONE, ONE, 1, engine, Tokenizers())
    draw = np.random.default_rng(0)
    texts = [draw.integers(1000, 20000, tokens).astype("int32") for _ in range(rows)]
    for text in texts:
        text[0], text[-1] = 101, 102
    batch = [AdapterRow(text, adapter) for text in texts]
    whole = _median_ms(lambda: engine.run(batch))
    print(f"{rows} texts of {tokens} tokens, {precision}: {whole:.1f} ms, {whole / rows:.2f} ms a text\n")
    top = adapter.weights.top
    trunk, alone = top.trunk._run._run, top._alone
    features = top.trunk.run(texts, [text.tobytes() for text in texts])
    below = [np.ones((rows, tokens), "int32"), np.stack(texts)]
    above = [*features, adapter.weights.packed, np.arange(rows, dtype="int32")]
    for name, part, inputs in (("below the adapter", trunk, below), ("above", alone, above)):
        spent = _operations(part, inputs)
        total = sum(spent.values())
        shown = sorted(spent, key=lambda kind: -spent[kind])[:SHOWN]
        products = sum(spent[kind] for kind in spent if any(word in kind for word in PRODUCTS))
        print(f"{name}: {total:.1f} ms, of which products {products / total:.0%}")
        print("\n".join(f"  {kind:<24} {spent[kind]:6.2f} ms" for kind in shown), "\n")
    dim = engine.base.dim
    for dtype in ("float32", "bfloat16"):
        left, right = (
            tf.constant(draw.normal(size=shape), dtype) for shape in ((rows * tokens, dim), (dim, 4 * dim))
        )
        product = tf.function(lambda left=left, right=right: tf.matmul(left, right))
        speed = 2 * rows * tokens * dim * 4 * dim / _median_ms(product) / 1e6
        print(f"a product of this size alone, {dtype}: {speed:.0f} GFLOP/s")


def _operations(part: Inference, inputs: Sequence[np.ndarray]) -> dict[str, float]:
    """Returns milliseconds by kind of operation, from a standalone graph with the variables as constants."""
    frozen = convert_variables_to_constants_v2(part._run)
    found: dict[str, list[float]] = defaultdict(list)
    with tf.Graph().as_default():
        tf.import_graph_def(frozen.graph.as_graph_def(), name="")
        threads = {"intra_op_parallelism_threads": 1, "inter_op_parallelism_threads": 1}
        with tf.compat.v1.Session(config=tf.compat.v1.ConfigProto(**threads)) as session:
            names = [tensor.name for tensor in frozen.outputs]
            feed = {tensor.name: value for tensor, value in zip(frozen.inputs, inputs, strict=True)}
            options = tf.compat.v1.RunOptions(trace_level=tf.compat.v1.RunOptions.FULL_TRACE)
            session.run(names, feed)
            for _ in range(RUNS):
                metadata = tf.compat.v1.RunMetadata()
                session.run(names, feed, options=options, run_metadata=metadata)
                spent: dict[str, float] = defaultdict(float)
                for device in metadata.step_stats.dev_stats:
                    for node in device.node_stats:
                        kind = node.timeline_label.rpartition(" = ")[2].partition("(")[0]
                        nanoseconds = node.op_end_rel_nanos - node.op_start_rel_nanos
                        spent[kind.removeprefix("_Mkl")] += nanoseconds / 1e6
                for kind, milliseconds in spent.items():
                    found[kind].append(milliseconds)
    return {kind: statistics.median(values) for kind, values in found.items()}


def _median_ms(run: Callable[[], Any]) -> float:
    for _ in range(5):
        run()
    spent = []
    for _ in range(RUNS):
        began = time.perf_counter()
        run()
        spent.append(time.perf_counter() - began)
    return statistics.median(spent) * 1e3


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving.operations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=20)
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument(
        "--served", type=Path, default=ROOT / ".bench-serve" / "served", help="bundles of `make bench-serve`"
    )
    options = parser.parse_args()
    measure(options.served, rows=options.rows, tokens=options.tokens, precision=options.precision)


if __name__ == "__main__":
    main()
