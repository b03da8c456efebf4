"""Engine that runs a base model in Keras."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import keras
import keras_hub  # noqa: F401  (a slow import, done here so that startup reports it)
import numpy as np

from keras_peft import methods, sources
from keras_peft.bundle.fitting import refuse_long_texts
from keras_peft.core.fitting import refuse_unfit
from keras_peft.runtime.cores import available_cores
from keras_peft.runtime.mixed_batch import MixedBatchBase, PackedAdapter
from keras_peft.serve.bundle_files import read_tensors

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.serve.loaded_adapter import AdapterRow
    from keras_peft.serve.settings import ServeSettings
    from keras_peft.sources import Base

# Prefix of the keys of the head's tensors.
_HEAD = "head/"


def start(base: str, settings: ServeSettings) -> Engine:
    """Creates the engine of a server. Call it before Keras runs any computation.

    Args:
        base: Base model, in any form that `sources.load` accepts.
        settings: Settings of the server.

    Returns:
        The engine, with the base model loaded.

    Raises:
        BaseError: If the base model cannot be loaded.
    """
    workers = share_processors(settings.workers)
    return Engine(
        sources.load(base),
        trunk_cache_mb=settings.trunk_cache_mb,
        precision=settings.precision,
        workers=workers,
    )


def share_processors(workers: int) -> int:
    """Configures TensorFlow to use one CPU per worker. Call it before TensorFlow runs any computation.

    Batches are small: two batches that run in parallel on one CPU each finish sooner than two
    batches that run one after the other on both CPUs.

    Args:
        workers: Number of workers. 0 picks one per available CPU if TensorFlow runs on the CPU,
            else one.

    Returns:
        The number of workers to use.
    """
    if keras.config.backend() != "tensorflow":
        return workers or 1
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return workers or 1
    workers = workers or available_cores()
    if workers > 1:
        # The number of threads is fixed once TensorFlow has run a computation.
        with suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(workers)
    return workers


class Engine:
    """Runs rows of many adapters on one frozen base model, in mixed batches.

    Args:
        base: The base model, which is frozen.
        trunk_cache_mb: Memory for the cached outputs of the blocks below the adapters for recent
            texts, in megabytes; 0 disables the cache.
        precision: Data type of the frozen matrix multiplications, `"float32"` or `"bfloat16"`.
            `"bfloat16"` is faster on processors that support it and rounds the logits.
        workers: Best number of concurrent batches; see `share_processors`.

    Attributes:
        name: Name of the engine and of its backend.
        base: The base model.
        workers: Best number of concurrent batches.

    Example:
        >>> engine = Engine(sources.load("minilm"))
        >>> outputs = engine.run([AdapterRow(ids, news), AdapterRow(ids, mood), AdapterRow(other_ids, news)])
    """

    def __init__(
        self, base: Base, *, trunk_cache_mb: int = 0, precision: str = "float32", workers: int = 1
    ) -> None:
        self.name = f"keras on {keras.config.backend()}"
        self.base, self.workers = base, workers
        self._mixed = MixedBatchBase(base.encoder, recent_bytes=trunk_cache_mb << 20, precision=precision)

    def load(self, bundle: Bundle) -> PackedAdapter:
        """Loads the weights of a bundle and traces the computation; see `Engine.load` in `_engine.py`.

        Args:
            bundle: The bundle.

        Returns:
            The weights, packed for mixed batches.

        Raises:
            AdapterError: If the tensors do not fit the method or the base model.
            BundleMismatch: If the bundle reads longer texts than the base model, or a file has
                changed.
        """
        task = bundle.task()
        placements = methods.placements_from_config(bundle.content["parts"])
        refuse_long_texts(bundle, placements, self.base.max_length)
        tensors = read_tensors(bundle)
        top = self._mixed.top(placements, pooling=task.pooling)
        head_shapes = task.head_shapes(self.base.dim)
        refuse_unfit(
            tensors, {**top.shape.shapes, **{_HEAD + key: shape for key, shape in head_shapes.items()}}
        )
        # After the checks above, since the options of an unchecked bundle could ask for a huge
        # computation.
        top.warm_up()
        return PackedAdapter(
            task,
            top,
            top.shape.pack({key: value for key, value in tensors.items() if not key.startswith(_HEAD)}),
            {key: np.array(tensors[_HEAD + key], np.float32) for key in head_shapes},
        )

    def group(self, row: AdapterRow) -> Hashable:
        """Returns the blocks below the adapter of a row. Rows that share them run together.

        Args:
            row: The row.
        """
        return _adapter(row).top.trunk

    def run(self, rows: Sequence[AdapterRow]) -> list[np.ndarray]:
        """Runs rows of any adapters; see `Engine.run` in `_engine.py`.

        Args:
            rows: The rows.

        Returns:
            The head outputs of each row.
        """
        return self._mixed.run([row.ids for row in rows], [_adapter(row) for row in rows])


def _adapter(row: AdapterRow) -> PackedAdapter:
    return cast("PackedAdapter", row.adapter.weights)
