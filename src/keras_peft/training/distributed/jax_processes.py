"""Processes that JAX connects: `jax.distributed` and `keras.distribution.DataParallel`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import keras
import numpy as np
from jax.experimental.multihost_utils import process_allgather

from keras_peft.runtime.outputs import Run, of_texts
from keras_peft.runtime.rows import EncodedRows, row_batches
from keras_peft.training.batches import TrainingBatches
from keras_peft.training.distributed.batch_parts import BatchParts, added_rows
from keras_peft.training.distributed.packing import packed, unpacked

Item = TypeVar("Item")

# Buffers of few sizes, because each size is compiled.
_SMALLEST_BUFFER = 1024


class JaxProcesses:
    """All processes that `jax.distributed` has connected; see `Processes`.

    Each process has its own copy of the weights. In `training`, Keras sees the copies as one weight that is
    replicated on the devices of all processes.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
    """

    def __init__(self) -> None:
        self.rank, self.count = jax.process_index(), jax.process_count()
        # Our batches are divided already.
        self._distribution = keras.distribution.DataParallel(auto_shard_dataset=False)
        self._devices = int(self._distribution.device_mesh.devices.size)

    def own(self, items: Sequence[Item]) -> Sequence[Item]:
        """Returns the items of which this process does the work: neighbours go to different processes."""
        return items[self.rank :: self.count]

    def gathered(self, content: Any) -> list[Any]:
        """Returns the content of all processes; see `Processes.gathered`."""
        data = packed(content)
        sizes = process_allgather(np.array([data.size], np.int32)).reshape(-1)
        longest = max(_SMALLEST_BUFFER, int(sizes.max()))
        buffer = np.zeros(1 << (longest - 1).bit_length(), np.uint8)
        buffer[: data.size] = data
        found = process_allgather(buffer)
        return [unpacked(own[:size]) for own, size in zip(found, sizes, strict=True)]

    def outputs(self, run: Run, rows: EncodedRows, *, repeatedly: bool = False) -> Any:
        """Computes outputs as `compute_outputs` does, each process for a part of the batches."""
        batches = row_batches(rows.lengths)
        own = [
            np.asarray(run(rows.batch(batch), once=not repeatedly), np.float32) for batch in self.own(batches)
        ]
        found = self.gathered(own)
        computed = (
            pair
            for number, batch in enumerate(batches)
            for pair in zip(batch, found[number % self.count][number // self.count], strict=True)
        )
        return of_texts(computed, rows)

    @contextmanager
    def training(self, model: keras.Model) -> Iterator[None]:
        """Replicates the variables of a model over all devices within the context, so that `fit` trains them."""
        self._replicate(model)
        keras.distribution.set_distribution(self._distribution)
        try:
            yield
        finally:
            keras.distribution.set_distribution(None)
            _take_copies(model)

    @contextmanager
    def scoring(self, model: keras.Model) -> Iterator[None]:
        """Lets this process run the model alone within the context."""
        keras.distribution.set_distribution(None)
        _take_copies(model)
        try:
            yield
        finally:
            self._replicate(model)
            keras.distribution.set_distribution(self._distribution)

    def batches(self, batches: TrainingBatches) -> BatchParts:
        """Returns this process's part of the batches."""
        return BatchParts(batches, rank=self.rank, count=self.count, devices=self._devices)

    def added_rows(self, rows: int) -> int:
        """Returns the number of rows without weight that complete a batch."""
        return added_rows(rows, self._devices)

    def _replicate(self, model: keras.Model) -> None:
        """Makes the variables one value on all devices. All processes have the same values."""
        mesh = self._distribution.device_mesh.backend_mesh
        nothing_split = jax.sharding.PartitionSpec()  # type: ignore[no-untyped-call]
        everywhere = jax.sharding.NamedSharding(mesh, nothing_split)
        for variable in _variables(model):
            value = variable.value
            # On the device that has it, the copy is the value itself.
            copies = [jax.device_put(value, device) for device in jax.local_devices()]
            variable.assign(jax.make_array_from_single_device_arrays(value.shape, everywhere, copies))


def _take_copies(model: keras.Model) -> None:
    """Replaces the values on all devices by this process's copies."""
    for variable in _variables(model):
        variable.assign(variable.value.addressable_data(0))


def _variables(model: keras.Model) -> list[keras.Variable]:
    """Returns all variables of a compiled model, with those of its optimizer and metrics."""
    every = [*model.variables, *model.optimizer.variables, *model.metrics_variables]
    return list({id(variable): variable for variable in every}.values())
