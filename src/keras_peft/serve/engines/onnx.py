"""Engine that runs a base model in ONNX Runtime, without Keras."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

from keras_peft import methods, sources
from keras_peft.bundle.fitting import refuse_long_texts
from keras_peft.errors import AdapterError
from keras_peft.graph import products
from keras_peft.graph.acting import NoGraph
from keras_peft.inputs.sentences import SENTENCES
from keras_peft.inputs.text import TextInput
from keras_peft.memory import give_back_freed_memory
from keras_peft.runtime.cores import available_cores
from keras_peft.runtime.onnx_mixed_batch import OnnxMixedBatchBase, SlottedAdapter
from keras_peft.runtime.onnx_session import runtime_name
from keras_peft.serve.bundle_files import read_tensors

if TYPE_CHECKING:
    import numpy as np

    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.bundle import Bundle
    from keras_peft.graph.products._products import Products
    from keras_peft.graph.writer import GraphWriter
    from keras_peft.serve.loaded_adapter import AdapterRow
    from keras_peft.serve.settings import ServeSettings


def start(base: str, settings: ServeSettings) -> Engine:
    """Creates the engine of a server.

    Args:
        base: Base model, in any form that `sources.load` accepts.
        settings: Settings of the server.

    Returns:
        The engine, with the base model loaded.

    Raises:
        BaseError: If the base model cannot be loaded without Keras.
    """
    return Engine(
        sources.load_weights(base),
        trunk_cache_mb=settings.trunk_cache_mb,
        precision=settings.precision,
        workers=settings.workers or available_cores(),
    )


class Engine:
    """Runs rows of many adapters on one frozen base model, in mixed batches.

    Each worker runs a batch on one thread: batches are small, and several of them in parallel finish sooner than one
    after the other on all cores.

    Args:
        base: The weights of the base model.
        trunk_cache_mb: Memory for the cached outputs of the blocks below the adapters for recent texts, in megabytes;
            0 disables the cache.
        precision: How the matrices of the base model are stored and multiplied: `"float32"`, or `"int8"` with a scale
            for each token.
        workers: Best number of concurrent batches.

    Attributes:
        name: Name of the engine and its version.
        base: The weights of the base model.
        workers: Best number of concurrent batches.

    Example:
        >>> engine = Engine(sources.load_weights("minilm"))
        >>> outputs = engine.run([AdapterRow(ids, news), AdapterRow(ids, mood), AdapterRow(other_ids, news)])
    """

    def __init__(
        self, base: EncoderWeights, *, trunk_cache_mb: int = 0, precision: str = "float32", workers: int = 1
    ) -> None:
        self.name = runtime_name()
        self.base, self.workers = base, workers
        kind = _products(base, precision)
        give_back_freed_memory()
        self._mixed = OnnxMixedBatchBase(base, kind, recent_bytes=trunk_cache_mb << 20)

    def load(self, bundle: Bundle) -> SlottedAdapter:
        """Loads the weights of a bundle; see `Engine.load` in `_engine.py`.

        Args:
            bundle: The bundle.

        Returns:
            The weights, in a slot of their layout.

        Raises:
            AdapterError: If the tensors do not fit, or the adapter cannot be written as a graph.
            BundleMismatch: If the bundle reads longer texts than the base model, or a file has changed.
        """
        task = bundle.task()
        placements = methods.placements_from_config(bundle.content["parts"])
        refuse_long_texts(bundle, placements, self.base.max_length)
        try:
            loaded = self._mixed.load(placements, read_tensors(bundle), task)
        except NoGraph as error:
            raise AdapterError(f"{error} Start the server with `engine='keras'` to serve it.") from None
        give_back_freed_memory()
        return loaded

    def group(self, row: AdapterRow) -> Hashable:
        """Returns the number of blocks below the adapter of a row. Rows that share them run together.

        Args:
            row: The row.
        """
        return _adapter(row).top.start

    def run(self, rows: Sequence[AdapterRow]) -> list[np.ndarray]:
        """Runs rows of any adapters; see `Engine.run` in `_engine.py`.

        Args:
            rows: The rows.

        Returns:
            The head outputs of each row.
        """
        return self._mixed.run([row.ids for row in rows], [_adapter(row) for row in rows])


def _products(base: EncoderWeights, precision: str) -> Callable[[GraphWriter], Products]:
    """Returns how the matrices are stored and multiplied; 8 bits are calibrated on sentences."""
    if precision != "int8":
        return products.find(precision)
    from keras_peft.graph.products import int8
    from keras_peft.graph.shared import trunk_graph
    from keras_peft.runtime.calibration import one_by_one, smoothing_factors

    encoder = TextInput().encoder(base.tokenizer, base.max_length)
    blocks = int(base.config["n_layers"])
    factors = smoothing_factors(
        lambda recording: trunk_graph(base, blocks, recording), one_by_one(encoder(SENTENCES).ids)
    )
    return partial(int8.Products, factors=factors)


def _adapter(row: AdapterRow) -> SlottedAdapter:
    return cast("SlottedAdapter", row.adapter.weights)
