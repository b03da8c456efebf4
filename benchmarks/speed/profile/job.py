"""Runs the command line with the phases measured, in a process of its own.

    python -m benchmarks.speed.profile.job BEGAN REPORT OPERATIONS train FILE --out FOLDER

BEGAN is the time at which the process was started. OPERATIONS is the folder for a trace of some training steps, or
`-`, since tracing slows the steps. What was measured is written to REPORT.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from pathlib import Path
from typing import Any

from . import patches
from .operations import kinds, products
from .recorder import Recorder, watch_imports

# The steps of the first epoch that are traced.
_FIRST, _LAST = 20, 70


class Watch:
    """Follows the training steps of the job.

    Attributes:
        ended: When the first step ended, in seconds since the command.
        steps: Number of steps.
        feeding: Seconds in which batches were made, in whatever thread.
        batches: The batches of the training, if steps are traced.
        trunk: What runs the frozen blocks, if steps are traced.
        traced: Seconds of the steps that are traced.
        products: The matrix products of a step and of the frozen blocks, as multiplications and additions.
    """

    def __init__(self, recorder: Recorder, began: float, operations: Path | None) -> None:
        self.ended: float | None = None
        self.steps, self.feeding = 0, 0.0
        self.batches: Any = None
        self.trunk: Any = None
        self.traced = 0.0
        self.products: dict[str, Any] = {}
        self._recorder, self._began, self._operations = recorder, began, operations
        self._traced_from = 0.0

    def after_step(self, watcher: Any) -> None:
        """Counts a step, and ends the phase of the first one."""
        self.steps += 1
        if self.ended is None:
            self.ended = time.time() - self._began
            self._recorder.switch(patches.STEPS)
        if self._operations is not None and self.steps in (_FIRST, _LAST):
            self._trace(self._operations, watcher)

    def _trace(self, folder: Path, watcher: Any) -> None:
        import tensorflow as tf

        if self.steps == _FIRST:
            options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=2, python_tracer_level=0)
            tf.profiler.experimental.start(str(folder), options)
            self._traced_from = time.perf_counter()
        else:
            self.traced = time.perf_counter() - self._traced_from
            tf.profiler.experimental.stop()
            self.products = products(watcher.model, self.batches, self.trunk)

    def remember(self, name: str) -> Any:
        """Returns a reaction that keeps the object."""
        return lambda own: setattr(self, name, own)

    def feeds(self, function: Any) -> Any:
        """Wraps the function that makes a batch; it may run in another thread."""
        lock = threading.Lock()

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            began = time.perf_counter()
            made = function(*args, **kwargs)
            with lock:
                self.feeding += time.perf_counter() - began
            return made

        return call


def main() -> None:
    """Runs the command and writes the report."""
    here = time.time()
    began, report, operations = float(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    recorder = Recorder()
    watch = Watch(recorder, began, None if operations == "-" else Path(operations))
    wrapped = patches.Patches()
    for module, name, phase in patches.PHASES:
        wrapped.add(module, name, patches.measured(recorder, phase))
    wrapped.add("keras_peft.training.watcher", "Watcher.on_train_batch_end", patches.after(watch.after_step))
    batches = "keras_peft.training.batches"
    wrapped.add(batches, "TrainingBatches.__getitem__", watch.feeds)
    if operations != "-":  # Otherwise nothing is kept that the job would release.
        wrapped.add(batches, "TrainingBatches.__init__", patches.after(watch.remember("batches")))
        runner = "keras_peft.runtime.trunk_runner"
        wrapped.add(runner, "TrunkRunner.__init__", patches.after(watch.remember("trunk")))
    watch_imports(recorder, wrapped.apply)
    code: Any = 0
    try:
        from keras_peft.cli import main as run

        run(sys.argv[4:])
    except SystemExit as error:
        code = error.code
    recorder.finish()
    content = {
        "starting": here - began,
        "seconds": recorder.seconds,
        "cores": recorder.cores,
        "calls": recorder.calls,
        "memory": recorder.memory,
        "first_step": watch.ended,
        "steps": watch.steps,
        "feeding": watch.feeding,
        "not_found": [f"{module}.{name}" for module, name, _ in wrapped.pending],
    }
    if operations != "-" and watch.traced:
        content["operations"] = {
            "steps": _LAST - _FIRST,
            "seconds": watch.traced,
            "by_kind": kinds(Path(operations)),
            "products": watch.products,
        }
    content["until"] = time.time()
    report.write_text(json.dumps(content))
    # As the command line does after its own commands.
    from keras_peft.cli.process import end

    end(code)


if __name__ == "__main__":
    main()
