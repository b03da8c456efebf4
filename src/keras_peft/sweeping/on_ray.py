"""Workers on Ray that run trials: actors, which Ray places on the machines of a cluster.

The study stays with the process that started the sweep, which alone writes the journal. So all that holds for a sweep
on one machine holds here, whatever is killed.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from keras_peft import cluster
from keras_peft.child_process import THREADS, Killed
from keras_peft.errors import KerasPeftError, OptionError, reason_of
from keras_peft.progress import Progress
from keras_peft.runtime.cores import available_cores
from keras_peft.sweeping.job import Job
from keras_peft.sweeping.trial import InProcess
from keras_peft.sweeping.worker import run_trials
from keras_peft.sweeping.workers import InWorker

# Cores of a worker, if there are as many.
_MOST_CORES = 4
# How often Ray starts an actor again that ends between two trials.
_RESTARTS = 3
# Seconds after which a thread looks up that waits for an actor.
_PATIENCE = 0.5
# Seconds after which it is said that no worker runs.
_LONG = 120.0


class TrialActor:
    """What runs in the process of an actor.

    Args:
        job: What all trials share.
        rows: SHA-256 of the training rows and of the validation rows.
        backend: The backend of Keras; None for the default of the machine.
    """

    def __init__(self, job: Job, rows: tuple[str, str], backend: str | None) -> None:
        # Its cores, for libraries that do not read what Ray sets.
        os.environ.update(dict.fromkeys(THREADS, os.environ.get("OMP_NUM_THREADS", "1")))
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
        if backend is not None:
            os.environ["KERAS_BACKEND"] = backend
        self._runner, self._expected = InProcess(job, Progress()), rows
        self._answers, self._messages = queue.Queue[Any](), queue.Queue[dict[str, Any]]()
        # A trial waits for answers in the middle of its training, so it runs in a thread of its own.
        arguments = (self._runner, self._answers, self._messages.put)
        threading.Thread(target=run_trials, args=arguments, daemon=True).start()

    def ready(self) -> dict[str, str]:
        """Returns the `node` that it runs on, or `refused` with the reason why it can run no trial."""
        import ray

        try:
            training, held_out = self._runner.rows()
        except KerasPeftError as error:
            return {"refused": f"The machine {socket.gethostname()} cannot read the rows: {error}"}
        if (training.sha256, held_out.sha256) != self._expected:
            return {
                "refused": f"The machine {socket.gethostname()} has other rows; expected the same files under the same "
                "paths on all machines of the cluster."
            }
        return {"node": ray.get_runtime_context().get_node_id()}

    def reply(self, content: Any) -> dict[str, Any]:
        """Takes a choice or an answer, and returns the next message of the trial; see `run_trials`."""
        self._answers.put(content)
        return self._messages.get()


class OnRay(InWorker):
    """Runs trials in an actor, which is created before the first trial, and again after it was killed.

    Args:
        ray: The module.
        create: Creates the actor.
        waits: Called with the seconds for which the actor has waited for its start.
    """

    def __init__(self, ray: Any, create: Callable[[], Any], waits: Callable[[float], None]) -> None:
        self._ray, self._create, self._waits = ray, create, waits
        self._actor: Any = None
        self._starting: Any = None
        self._since = 0.0

    def ready(self) -> bool:
        """Returns whether the actor runs; waits a moment if it does not.

        Raises:
            OptionError: If it cannot run any trial.
        """
        if self._actor is None:
            self._actor = self._create()
        if self._starting is None:
            # It may be killed between two trials or before the first one; Ray starts it again then.
            self._starting = self._actor.ready.options(max_task_retries=-1).remote()
            self._since = time.monotonic()
        if not self._ray.wait([self._starting], timeout=_PATIENCE)[0]:
            self._waits(time.monotonic() - self._since)
            return False
        try:
            answer = self._ray.get(self._starting)
        except self._ray.exceptions.RayError as error:
            raise OptionError(
                f"A worker on Ray failed ({type(error).__name__}: {reason_of(error)}); expected the same keras-peft "
                "and Python on all machines of the cluster."
            ) from error
        self._starting = None
        if "refused" in answer:
            raise OptionError(answer["refused"])
        self.place = answer["node"]
        return True

    def reply(self, content: Any) -> dict[str, Any]:
        """Sends a choice or an answer, and returns the next message; see `InWorker.reply`."""
        actor = self._actor
        if actor is None:
            raise Killed("its process on Ray was ended")
        try:
            message: dict[str, Any] = self._ray.get(actor.reply.remote(content))
        except self._ray.exceptions.RayTaskError as error:
            raise RuntimeError(f"A trial failed:\n{error}") from error
        except self._ray.exceptions.RayError as error:
            # If only the connection is lost, the actor still trains: another one goes on with the trial.
            self.close()
            raise Killed(
                f"its process on Ray was ended ({type(error).__name__}; perhaps for its memory)"
            ) from error
        return message

    def close(self) -> None:
        """Ends the actor."""
        actor, self._actor, self._starting = self._actor, None, None
        if actor is not None:
            self._ray.kill(actor)


@contextmanager
def runners(
    job: Job, rows: tuple[str, str], *, workers: int | None, progress: Progress
) -> Iterator[Sequence[OnRay]]:
    """Joins a Ray cluster, or starts Ray on this machine.

    Args:
        job: What all trials share.
        rows: SHA-256 of the training rows and of the validation rows.
        workers: Number of actors; by default, one for every four cores of the cluster.
        progress: Receives progress events.

    Yields:
        What runs the trials. Each has its share of the cores, four at most.

    Raises:
        ExtraNotInstalled: If Ray is not installed.
        OptionError: If Ray cannot be started or reached.
    """
    progress.stage("Starting Ray, or joining it")
    with cluster.joined("A sweep on Ray", cores=max(available_cores(), workers or 1)) as ray:
        cores = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        count, each = _shares(cores, workers)
        several = "s" if count > 1 else ""
        progress.stage(f"Starting {count} worker{several} on Ray, which has {sum(cores)} cores")
        kind = ray.remote(TrialActor).options(num_cpus=each, max_restarts=_RESTARTS)
        own, backend = _anywhere(job), os.environ.get("KERAS_BACKEND")
        waits = _Waiting(progress)
        yield [OnRay(ray, lambda: kind.remote(own, rows, backend), waits) for _ in range(count)]


class _Waiting:
    """Says once that workers wait for free cores.

    Args:
        progress: Is told.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress, self._lock, self._is_told = progress, threading.Lock(), False

    def __call__(self, seconds: float) -> None:
        """Says it if a worker has waited long enough."""
        with self._lock:
            if seconds > _LONG and not self._is_told:
                self._is_told = True
                self._progress.note("workers on Ray wait for free cores of the cluster.")


def _shares(cores: Sequence[int], workers: int | None) -> tuple[int, int]:
    """Returns the number of workers, and the number of cores of each.

    Args:
        cores: Number of cores of each machine.
        workers: Number of workers, None for one for every four cores.

    Example:
        >>> _shares([8, 6], 4), _shares([8, 6], None), _shares([2], 3)
        ((4, 3), (3, 4), (3, 1))
    """
    count = workers or max(1, sum(one // _MOST_CORES for one in cores))
    fitting = (each for each in range(_MOST_CORES, 1, -1) if sum(one // each for one in cores) >= count)
    return count, next(fitting, 1)


def _anywhere(job: Job) -> Job:
    """Returns a job with absolute paths, since actors run in another folder."""
    data, settings = cluster.with_absolute_paths(job.data, job.settings)
    return replace(job, data=data, settings=settings)
