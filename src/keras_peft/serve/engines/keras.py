"""Keras: rows of any adapters on a base that was loaded by `sources`."""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import keras
import keras_hub  # noqa: F401  (sources import it, which takes long; here a server tells of it)
import numpy as np

from keras_peft import methods, sources
from keras_peft.core.adapter import refuse_unfit
from keras_peft.errors import BundleMismatch
from keras_peft.runtime.mixed_batch import MixedBatchBase, PackedAdapter
from keras_peft.serve.bundle_files import read_tensors

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.core.adapter import Placement
    from keras_peft.serve.loaded_adapter import AdapterRow
    from keras_peft.serve.settings import ServeSettings
    from keras_peft.sources import Base

# What the keys of the head's tensors begin with.
_HEAD = "head/"


def start(base: str, settings: ServeSettings) -> Engine:
    """Makes the engine of a server; call it before Keras computes anything.

    Args:
        base: The base, as `sources.load` takes it.
        settings: What the server was told.

    Raises:
        BaseError: If the base cannot be loaded.
    """
    workers = share_processors(settings.workers)
    return Engine(
        sources.load(base),
        trunk_cache_mb=settings.trunk_cache_mb,
        precision=settings.precision,
        workers=workers,
    )


def share_processors(workers: int) -> int:
    """Gives each worker a processor of its own; call it before TensorFlow computes anything.

    Batches are small: two that run beside one another, each on one processor, take less time
    than one after the other, each on both.

    Args:
        workers: How many to use; 0 for as many as there are processors, where TensorFlow
            computes on these, and one elsewhere.

    Returns:
        How many there are to be.
    """
    if keras.config.backend() != "tensorflow":
        return workers or 1
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return workers or 1
    workers = workers or len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else [0])
    if workers > 1:
        # Where TensorFlow has computed already, its threads are what they are.
        with suppress(RuntimeError):
            tf.config.threading.set_intra_op_parallelism_threads(1)
            tf.config.threading.set_inter_op_parallelism_threads(workers)
    return workers


class Engine:
    """A frozen base on which rows of many adapters run in one batch.

    Args:
        base: The base; it is frozen from now on.
        trunk_cache_mb: Memory for what the blocks below the adapters gave for recent texts, in
            megabytes; 0 keeps nothing.
        precision: What the frozen matrices multiply in: `"float32"`, or `"bfloat16"`, which is
            faster on processors made for it and rounds the logits.
        workers: How many batches it computes best at the same time; see `share_processors`.

    Attributes:
        base: The base.
        workers: How many batches it computes best at the same time.

    Example:
        >>> engine = Engine(sources.load("minilm"))
        >>> outputs = engine.run([AdapterRow(ids, news), AdapterRow(ids, mood), AdapterRow(other_ids, news)])
    """

    def __init__(
        self, base: Base, *, trunk_cache_mb: int = 0, precision: str = "float32", workers: int = 1
    ) -> None:
        self.base, self.workers = base, workers
        self._mixed = MixedBatchBase(base.encoder, recent_bytes=trunk_cache_mb << 20, precision=precision)

    def load(self, bundle: Bundle) -> PackedAdapter:
        """Reads the tensors of a bundle and traces what runs them; see `Engine.load` of `_engine.py`."""
        task = bundle.task()
        placements = methods.placements_from_config(bundle.content["parts"])
        if problem := self._problem_with_length(bundle, placements):
            raise BundleMismatch(problem)
        tensors = read_tensors(bundle)
        top = self._mixed.top(placements, first_position_only=task.first_position_only)
        head_shapes = task.head_shapes(self.base.dim)
        refuse_unfit(
            tensors, {**top.shape.shapes, **{_HEAD + key: shape for key, shape in head_shapes.items()}}
        )
        # Only now: what is traced has the size that the bundle's options ask for.
        top.warm_up()
        return PackedAdapter(
            task,
            top,
            top.shape.pack({key: value for key, value in tensors.items() if not key.startswith(_HEAD)}),
            {key: np.array(tensors[_HEAD + key], np.float32) for key in head_shapes},
        )

    def group(self, row: AdapterRow) -> Hashable:
        """Returns the blocks below a row's adapter; rows that share these run together."""
        return _adapter(row).top.trunk

    def run(self, rows: Sequence[AdapterRow]) -> list[np.ndarray]:
        """Answers rows of any adapters; see `Engine.run` of `_engine.py`."""
        return self._mixed.run([row.ids for row in rows], [_adapter(row) for row in rows])

    def _problem_with_length(self, bundle: Bundle, placements: Sequence[Placement]) -> str | None:
        taken = sum(placement.method.extra_positions for placement in placements)
        longest = self.base.max_length - taken
        asked = bundle.content["max_length"]
        if asked <= longest:
            return None
        return f"It reads up to {asked} tokens of a text; the base reads {longest} beside {taken} of its own."


def _adapter(row: AdapterRow) -> PackedAdapter:
    return cast("PackedAdapter", row.adapter.weights)
