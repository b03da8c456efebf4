"""One training of a comparison: trains a candidate and measures it on rows that it did not see."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from keras_peft._version import __version__
from keras_peft.comparing import yardsticks
from keras_peft.comparing.candidates import is_trained, method_of
from keras_peft.comparing.jobs import Job
from keras_peft.comparing.results import Result
from keras_peft.comparing.sides import Part, Sides
from keras_peft.errors import KerasPeftError
from keras_peft.inputs.limits import DEFAULT_MAX_LENGTH
from keras_peft.memory import give_back_freed_memory, peak_since_reset_mb, reset_peak
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.settings import Settings

if TYPE_CHECKING:
    from keras_peft.bases._weights import EncoderWeights
    from keras_peft.sources import Base
    from keras_peft.tasks import Task
    from keras_peft.training.once import TrainedOnce

# Texts whose predictions are timed, after some that are not.
_TIMED, _WARM = 20, 3

Outputs = Callable[[Sequence[Any]], Any]


class Measurer:
    """Trains and measures candidates, one after the other.

    Args:
        sides: The rows.
        settings: The training settings; the seed is that of the job.
    """

    def __init__(self, sides: Sides, settings: Settings) -> None:
        self._sides, self._settings = sides, settings
        self._weights: EncoderWeights | None = None

    def measure(self, job: Job, progress: Progress, stopwatch: Stopwatch) -> Result:
        """Trains a candidate and measures it.

        Args:
            job: The training.
            progress: Receives progress events.
            stopwatch: Measures the stages.

        Raises:
            KerasPeftError: If the candidate does not fit the settings or the base, or training diverges.
        """
        part = self._sides.part(job.seed, job.fold)
        reset_peak()
        try:
            if is_trained(job.candidate):
                found = self._trained(job, part, progress, stopwatch)
            else:
                found = self._fitted(job, part, stopwatch)
        finally:
            gc.collect()
            give_back_freed_memory()
        return Result(
            candidate=job.candidate,
            seed=job.seed,
            fold=job.fold,
            peak_mb=peak_since_reset_mb(),
            test_rows=[int(row) for row in part.positions],
            version=__version__,
            **found,
        )

    def _trained(self, job: Job, part: Part, progress: Progress, stopwatch: Stopwatch) -> dict[str, Any]:
        """Trains a method and returns the fields of its result."""
        from keras_peft.training.once import train_once

        method = method_of(job.candidate)
        settings = replace(self._settings, seed=job.seed)
        done = train_once(
            part.training, [method], settings, scored=part.scored, progress=progress, stopwatch=stopwatch
        )
        prepared = done.prepared
        tensors = prepared.model.adapter_tensors()
        found = {
            "kind": "yardstick" if method.is_baseline else "method",
            **_scored(prepared.task, done.outputs, done.truth),
            "trainable_parameters": prepared.model.plan.trainable_parameters,
            "train_seconds": _training_seconds(stopwatch),
            "adapter_bytes": sum(value.nbytes for value in tensors.values()),
            "latency_ms": None,
            "train_rows": len(prepared.training),
            "settings": {"method": method.to_config(), **prepared.settings},
        }
        if job.fold in (None, 0):
            with stopwatch.measure("latency"):
                found["latency_ms"] = _latency(self._runtime(done, tensors), part.scored.texts)
        prepared.model.detach()
        return found

    def _runtime(self, done: TrainedOnce, tensors: dict[str, Any]) -> Outputs:
        """Returns what computes outputs as a bundle of the model would: ONNX Runtime, or else Keras."""
        from keras_peft.engines import ONNX, chosen_engine
        from keras_peft.runtime.inference import Inference
        from keras_peft.runtime.outputs import Run, compute_outputs
        from keras_peft.runtime.padding import token_signature

        prepared = done.prepared
        run: Run = Inference(prepared.model, token_signature())
        if chosen_engine(self._settings.base)[0] == ONNX:
            with suppress(KerasPeftError):  # Then a bundle would run in Keras, too.
                run = self._session(done, tensors)
        return lambda texts: compute_outputs(run, prepared.encoder(texts), repeatedly=True)

    def _session(self, done: TrainedOnce, tensors: dict[str, Any]) -> Any:
        from keras_peft import sources
        from keras_peft.graph.classifier import classifier_graph
        from keras_peft.graph.products import float32
        from keras_peft.runtime.onnx_session import OnnxSession

        self._weights = self._weights or sources.load_weights(self._settings.base)
        prepared = done.prepared
        graph = classifier_graph(
            self._weights, prepared.placements, tensors, prepared.task, products=float32.Products
        )
        return OnnxSession(graph.to_reference(), graph.constants)

    def _fitted(self, job: Job, part: Part, stopwatch: Stopwatch) -> dict[str, Any]:
        """Fits a yardstick and returns the fields of its result."""
        yardstick = yardsticks.find(job.candidate)()
        task = part.training.trained_task()
        task.check_known(part.scored.labels, part.scored.source)
        base = self._base(stopwatch) if yardstick.reads_base else None
        limits = [self._settings.max_length or DEFAULT_MAX_LENGTH, *([base.max_length] if base else [])]
        with stopwatch.measure("train"):
            fitted = yardstick.fit(part.training, task, base, max_length=min(limits), seed=job.seed)
        with stopwatch.measure("evaluate"):
            outputs = fitted.outputs(part.scored.texts)
        timed = job.fold in (None, 0)
        return {
            "kind": "yardstick",
            **_scored(task, outputs, task.targets(part.scored.labels)),
            "trainable_parameters": fitted.parameters,
            "train_seconds": _training_seconds(stopwatch),
            "adapter_bytes": None,
            "latency_ms": _latency(fitted.outputs, part.scored.texts) if timed else None,
            "train_rows": len(part.training),
            "settings": {"seed": job.seed, "max_length": min(limits)},
        }

    def _base(self, stopwatch: Stopwatch) -> Base:
        with stopwatch.measure("import"):
            from keras_peft import sources
        with stopwatch.measure("load"):
            return sources.load(self._settings.base)


def _scored(task: Task, outputs: Any, truth: Any) -> dict[str, Any]:
    """Returns the metrics, and the counts of each row."""
    return {
        "counts": task.counts(outputs, truth).tolist(),
        "metrics": task.score(outputs, truth).metrics,
    }


def _training_seconds(stopwatch: Stopwatch) -> float:
    """Returns the seconds of the training steps, with the computation of the frozen blocks if they were not cached."""
    seconds = stopwatch.read()
    return sum(seconds.get(stage, 0.0) for stage in ("trunk", "train"))


def _latency(outputs: Outputs, texts: Sequence[Any]) -> float:
    """Returns the median duration of the prediction of one row, in milliseconds."""
    durations = []
    for place in range(-_WARM, _TIMED):
        text = texts[place % len(texts)]
        began = time.perf_counter()
        outputs([text])
        if place >= 0:
            durations.append(time.perf_counter() - began)
    return 1000 * statistics.median(durations)
