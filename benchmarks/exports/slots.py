"""Times a graph with slots for adapters of five kinds against the graph of one adapter.

    python -m benchmarks.exports.slots BUNDLE

Prints one line of JSON: for each size of a batch, the least milliseconds of each graph. Each row has another adapter,
and all graphs pool as the bundle does, so that all of them may narrow the last block.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping

import numpy as np

from keras_peft import bundle as bundles
from keras_peft import sources
from keras_peft.core.effects import Affine, Bottleneck, KeysAndValues
from keras_peft.core.weights import read_tensors
from keras_peft.graph import products
from keras_peft.graph.classifier import classifier_graph
from keras_peft.graph.names import ADAPTER, IDS, LOGITS, MASK, VECTORS
from keras_peft.graph.shared import union_graph
from keras_peft.graph.union import Union
from keras_peft.methods import placements_from_config
from keras_peft.runtime.onnx_session import Session
from keras_peft.runtime.onnx_slots import Slots

SIZES = ((8, 20), (16, 64))
SLOTS, ROUNDS = 64, 60
BLOCKS = (4, 5)


def effects(generator: np.random.Generator, dim: int) -> list[dict[str, list]]:
    """Returns the effects of LoRA, (IA)³, BitFit, bottlenecks and prefixes in the last two blocks."""

    def some(*shape: int) -> np.ndarray:
        return generator.normal(scale=0.02, size=shape).astype(np.float32)

    wide = 4 * dim
    paths = [f"transformer_layer_{block}" for block in BLOCKS]
    query, value = "self_attention_layer/query", "self_attention_layer/value"
    down, out = "feedforward_output_dense", "self_attention_layer/attention_output"
    lora = {
        f"{p}/{q}": [Affine(left=some(dim, 8), right=some(8, dim))] for p in paths for q in (query, value)
    }
    scales = {f"{p}/{value}": [Affine(output_scale=some(dim))] for p in paths}
    scales |= {f"{p}/{down}": [Affine(input_scale=some(wide))] for p in paths}
    biases = {f"{p}/{q}": [Affine(bias=some(dim))] for p in paths for q in (query, value, out, down)}
    bottlenecks = {
        f"{p}/{q}": [Bottleneck(some(dim, 48), some(48), some(48, dim), some(dim), "gelu")]
        for p in paths
        for q in (out, down)
    }
    prefixes = {f"{p}/self_attention_layer": [KeysAndValues(some(16, dim), some(16, dim))] for p in paths}
    return [lora, scales, biases, bottlenecks, prefixes]


def main() -> None:
    """Reads the command line and prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle")
    bundle = bundles.read(parser.parse_args().bundle)
    sides = _graphs(bundle)
    print(json.dumps({f"{rows}x{length}": _times(sides, rows, length) for rows, length in SIZES}))


def _graphs(bundle: bundles.Bundle) -> dict[str, Callable[[dict[str, np.ndarray]], object]]:
    """Returns the graphs by name, as functions that run a batch."""
    base, task = sources.load_weights(bundle.base_name), bundle.task()
    tensors = read_tensors(bundle.folder / "adapter.safetensors")
    placements = placements_from_config(bundle.content["parts"])
    plain = classifier_graph(base, placements, tensors, task, products=products.find("float32"))
    session = Session(plain.to_reference(), plain.constants)
    sides: dict[str, Callable[[dict[str, np.ndarray]], object]] = {
        "plain": lambda inputs: session.run(LOGITS, inputs)
    }
    kinds = effects(np.random.default_rng(0), base.dim)
    for name, own in [("lora", kinds[:1]), ("all", kinds)]:
        union = Union.of(own)
        graph = union_graph(base, union, [task.pooling], products.find("float32"), has_words=False)
        shared, slots = Session(graph.to_reference(), graph.constants), Slots(union.shapes)
        for number in range(SLOTS):
            slots.add(union.tensors(own[number % len(own)]))
        sides[name] = lambda inputs, shared=shared, slots=slots: shared.run(
            VECTORS, {**inputs, ADAPTER: np.arange(len(inputs[IDS]))}, slots.values()
        )
    return sides


def _times(
    sides: Mapping[str, Callable[[dict[str, np.ndarray]], object]], rows: int, length: int
) -> dict[str, float]:
    """Returns the least milliseconds of each side, which take turns."""
    ids = np.random.default_rng(0).integers(1000, 20_000, (rows, length))
    inputs = {IDS: ids, MASK: np.ones_like(ids)}
    best = dict.fromkeys(sides, float("inf"))
    for _ in range(ROUNDS):
        for name, side in sides.items():
            began = time.perf_counter()
            side(inputs)
            best[name] = min(best[name], time.perf_counter() - began)
    return {name: 1000 * seconds for name, seconds in best.items()}


if __name__ == "__main__":
    main()
