"""A training run, step by step: read, prepare, train, save and verify."""

from __future__ import annotations

import gc
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import bundle as bundles
from keras_peft.core.method import Method
from keras_peft.data.tables import Data
from keras_peft.errors import OptionError, listed
from keras_peft.memory import peak_rss_mb, stop_keeping_freed_memory
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training import tracking
from keras_peft.training.checkpoint import Checkpoint, TrainingState
from keras_peft.training.content import content_of
from keras_peft.training.describe import run_of
from keras_peft.training.distributed.first_checkpoint import FirstCheckpoint
from keras_peft.training.distributed.joining import by_first
from keras_peft.training.distributed.processes import Alone, Processes, same
from keras_peft.training.prepare import prepare, read, read_texts
from keras_peft.training.prepared import PreparedTraining
from keras_peft.training.settings import Settings

if TYPE_CHECKING:
    import keras
    import numpy as np

    from keras_peft.training.rounds import Trained
    from keras_peft.training.trunk_cache import TrunkCacheUse


@dataclass(frozen=True)
class Job:
    """A training run from the data to the bundle.

    Attributes:
        data: Labelled text; see `read_examples`.
        out: Folder of the bundle.
        settings: The training settings.
        overwrite: Whether to replace an existing bundle.
        callbacks: Keras callbacks.
        trackers: Names of the trackers; those of the backend by default.
        progress: Receives progress events.
        stopwatch: Measures the stages.
        processes: The processes that train together.
    """

    data: Data
    out: Path
    settings: Settings
    overwrite: bool
    callbacks: Sequence[keras.callbacks.Callback]
    trackers: Sequence[str] | None
    progress: Progress
    stopwatch: Stopwatch
    processes: Processes

    def run(self, chosen: Sequence[Method], *, resume: bool) -> dict[str, Any]:
        """Trains and writes the bundle.

        Args:
            chosen: The methods, which are combined into one adapter.
            resume: Whether to resume an interrupted run.

        Returns:
            The report of the bundle, with the final times.

        Raises:
            KerasPeftError: If an argument or the data cannot be used.
        """
        progress, stopwatch, settings = self.progress, self.stopwatch, self.settings
        by_first(self.processes, lambda: bundles.refuse_existing(self.out, overwrite=self.overwrite))
        training, held_out = read(self.data, settings, progress)
        prepared = prepare(
            training,
            held_out,
            chosen,
            settings,
            progress=progress,
            stopwatch=stopwatch,
            unlabelled=read_texts(training, settings),
            processes=self.processes,
        )
        checkpoint = self._checkpoint(prepared)
        state = self._state(checkpoint, resume=resume, epochs=prepared.recipe.epochs)
        with _kept(checkpoint):
            trained, cached = self._train(prepared, checkpoint, state)

        progress.stage("Saving and verifying the bundle")
        is_first = self.processes.rank == 0
        parts = (self.data, self.out, prepared, trained, cached, settings, progress, stopwatch)
        content = content_of(*parts) if is_first else None
        # The bundle is verified on a fresh base; free this one first, so that memory holds only one.
        del prepared, parts
        gc.collect()
        stop_keeping_freed_memory()
        with stopwatch.measure("save"), _kept(checkpoint):
            report = by_first(self.processes, lambda: self._saved(content))
        checkpoint.remove()
        return {**report, "seconds": stopwatch.read(), "peak_rss_mb": peak_rss_mb()}

    def _saved(self, content: Any) -> dict[str, Any]:
        """Writes the bundle and returns its report; called in the first process."""
        written = bundles.write(self.out, content, overwrite=self.overwrite)
        return {**written.report()}

    def _checkpoint(self, prepared: PreparedTraining) -> Checkpoint:
        """Returns the checkpoint, after checking that all processes train the same."""
        run = run_of(prepared, self.settings)
        checkpoint = Checkpoint.next_to(self.out, run)
        if isinstance(self.processes, Alone):
            return checkpoint
        weights = prepared.model.adapter_tensors()
        if differing := same(self.processes, {**run, "initial weights": _checksums(weights)}.items()):
            raise OptionError(
                f"The processes differ in {listed(differing)}. Give all of them the same data, settings and versions."
            )
        return FirstCheckpoint.of(checkpoint, self.processes)

    def _state(self, checkpoint: Checkpoint, *, resume: bool, epochs: int) -> TrainingState | None:
        """Reads the state to resume from; without `resume`, removes that of an interrupted run."""
        state = checkpoint.read() if resume else None
        if state is not None:
            self.progress.note(f"Resuming after epoch {state.content['epoch']} of {epochs}")
        elif not resume and checkpoint.is_there():
            self.progress.note(
                f"{checkpoint.folder} contains an interrupted training run, which is replaced, because `resume` is "
                "not set"
            )
            checkpoint.remove()
        return state

    def _train(
        self, prepared: PreparedTraining, checkpoint: Checkpoint, state: TrainingState | None
    ) -> tuple[Trained, TrunkCacheUse | None]:
        """Trains the model and returns what it led to, and how the trunk cache was used."""
        from keras_peft.training.rounds import Rounds  # After `prepare`, which imports Keras quietly.

        trackers = tracking.defaults() if self.trackers is None else self.trackers
        run = tracking.TrackedRun(
            name=self.out.name,
            folder=self.out.absolute().parent / "logs" / self.out.name,
            settings=prepared.settings,
            resumed=state is not None,
        )
        progress, stopwatch, cached = self.progress, self.stopwatch, self.settings.trunk_cache
        with (
            prepared.rows(trunk_cache=cached, progress=progress, stopwatch=stopwatch) as (sets, use),
            tracking.tracked(() if self.processes.rank else trackers, run, progress) as loggers,
            stopwatch.measure("train"),
        ):
            rounds = Rounds(prepared, self.settings, sets, progress=progress, stopwatch=stopwatch)
            trained = rounds.train(checkpoint=checkpoint, state=state, callbacks=[*loggers, *self.callbacks])
        return trained, use


def _checksums(tensors: Mapping[str, np.ndarray]) -> dict[str, int]:
    return {name: zlib.crc32(values.tobytes()) for name, values in tensors.items()}


@contextmanager
def _kept(checkpoint: Checkpoint) -> Iterator[None]:
    """Adds a note to exceptions if a checkpoint of the training exists."""
    try:
        yield
    except BaseException as error:
        if checkpoint.is_there():
            error.add_note(
                "The training up to the last complete epoch is kept; continue it with `resume=True`."
            )
        raise
