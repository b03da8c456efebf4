"""Trains on Ray: `ray.train` starts the processes, and starts them again when one is lost."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from keras_peft import cluster, errors
from keras_peft.core.method import Method
from keras_peft.errors import KerasPeftError, OptionError, ProcessLost, reason_of
from keras_peft.extras import need
from keras_peft.progress import Progress
from keras_peft.stopwatch import Stopwatch
from keras_peft.training.distributed.environment import ADDRESSES, COUNT, RANK

# How often Ray starts all processes again after it has lost one.
_RESTARTS = 3
# Seconds between two looks at what the first process tells, and between two reports of it.
_PERIOD = 0.3


def train(
    parts: Sequence[Any],
    chosen: Sequence[Method],
    *,
    resume: bool,
    heartbeat: int,
    workers: int,
    gpus: int,
    progress: Progress,
) -> dict[str, Any]:
    """Trains by several processes on a Ray cluster.

    Args:
        parts: The first attributes of `Job`, up to the trackers. Paths must lead to the same files on all machines.
        chosen: The methods, which are combined into one adapter.
        resume: Whether to resume an interrupted run.
        heartbeat: Seconds without a sign of life after which a process counts as lost.
        workers: Number of processes.
        gpus: Number of GPUs of each.
        progress: Receives the progress events of the first process.

    Returns:
        The report of the bundle, with the final times.

    Raises:
        KerasPeftError: As in `fine_tune`.
        ProcessLost: If processes are lost more often than Ray starts them again.
    """
    if workers < 1:
        raise OptionError(f"`workers={workers}`: expected 1 or more.")
    need("Training on Ray", "jax", "ray")
    progress.stage("Starting Ray, or joining it")
    os.environ.setdefault("RAY_TRAIN_V2_ENABLED", "1")
    with cluster.joined("Training on Ray", cores=workers) as ray, tempfile.TemporaryDirectory() as folder:
        _note_resources(ray.cluster_resources(), workers, gpus, progress)
        relay = ray.remote(Relay).options(num_cpus=0).remote()
        given = {"parts": parts, "chosen": chosen, "resume": resume, "heartbeat": heartbeat, "relay": relay}
        ended = _started(lambda: _fit(given, workers, gpus, folder))
        while True:
            over = ended()
            for name, arguments, named in ray.get(relay.taken.remote()):
                getattr(progress, name)(*arguments, **named)
            if over:
                break
            time.sleep(_PERIOD)
        report, error = ray.get(relay.outcome.remote())
    if error is not None:
        raise error
    if report is None:
        raise ProcessLost(
            f"Processes were lost, and Ray has started them {_RESTARTS} times. Look at Ray's logs."
        )
    return dict(report)


def _note_resources(resources: Mapping[str, float], workers: int, gpus: int, progress: Progress) -> None:
    """Says what the workers wait for, or could use."""
    cores, there = int(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if cores < workers:
        progress.note(f"the cluster has {cores} cores; {workers} workers wait until it has as many.")
    known = f"the cluster has {there} GPU{'' if there == 1 else 's'}"
    if there < workers * gpus:
        progress.note(f"{known}; the workers wait until it has {workers * gpus}.")
    elif there and not gpus:
        progress.note(f"{known}, and no worker asks for one; add `gpus=1` for one each.")


class Relay:
    """An actor that passes on what the first process tells.

    Attributes:
        starts: How often the processes were started.
    """

    def __init__(self) -> None:
        self.starts = 0
        self._events: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self._report: dict[str, Any] | None = None
        self._error: KerasPeftError | None = None

    def start(self) -> int:
        """Counts a start, and returns the number of starts before."""
        self.starts += 1
        return self.starts - 1

    def add(self, events: list[tuple[str, tuple[Any, ...], dict[str, Any]]]) -> None:
        """Receives events: names of methods of `Progress`, and their arguments."""
        self._events += events

    def taken(self) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
        """Returns the events since the last call."""
        events, self._events = self._events, []
        return events

    def done(self, report: dict[str, Any]) -> None:
        """Receives the report."""
        self._report = report

    def refused(self, kind: str, message: str) -> None:
        """Receives an error that the user can fix, which would happen again after a restart."""
        self._error = getattr(errors, kind, KerasPeftError)(message)

    def outcome(self) -> tuple[dict[str, Any] | None, KerasPeftError | None]:
        """Returns the report and the error, of which at least one is None."""
        return self._report, self._error


class RelayedProgress(Progress):
    """Passes all events to a relay, several at a time.

    Args:
        send: Sends events to the relay.
    """

    def __init__(self, send: Callable[[list[Any]], Any]) -> None:
        self._send, self._events, self._sent = send, list[Any](), 0.0

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("_") or name in ("importing", "flush"):
            return found

        def tell(*arguments: Any, **named: Any) -> None:
            self._events.append((name, arguments, named))
            if time.monotonic() - self._sent > _PERIOD:
                self.flush()

        return tell

    def importing(self) -> AbstractContextManager[Any]:
        """Returns a context for imports, whose output Ray keeps in a file."""
        return super().importing()

    def flush(self) -> None:
        """Sends the events that wait."""
        self._send(self._events)
        self._events, self._sent = [], time.monotonic()


def _fit(given: dict[str, Any], workers: int, gpus: int, folder: str) -> None:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

    environment = {"KERAS_BACKEND": "jax", "TF_CPP_MIN_LOG_LEVEL": "3", "RAY_TRAIN_V2_ENABLED": "1"}
    DataParallelTrainer(
        _work,
        train_loop_config=given,
        scaling_config=ScalingConfig(
            num_workers=workers,
            use_gpu=gpus > 0,
            resources_per_worker={"CPU": 1} | ({"GPU": gpus} if gpus else {}),
        ),
        run_config=RunConfig(
            storage_path=folder,
            failure_config=FailureConfig(max_failures=_RESTARTS),
            worker_runtime_env={"env_vars": environment},
        ),
    ).fit()


def _work(given: dict[str, Any]) -> None:
    """Runs in each process."""
    import ray
    from ray.train import get_context
    from ray.train.collective import broadcast_from_rank_zero

    from keras_peft.training.distributed.joining import joined
    from keras_peft.training.job import Job

    relay = given["relay"]
    rank, count = get_context().get_world_rank(), get_context().get_world_size()
    told = None
    if rank == 0:
        told = (f"{ray.util.get_node_ip_address()}:{_free_port()}", ray.get(relay.start.remote()))
    address, starts = broadcast_from_rank_zero(told)
    os.environ |= {ADDRESSES: address, COUNT: str(count), RANK: str(rank)}
    progress = RelayedProgress(lambda events: ray.get(relay.add.remote(events))) if rank == 0 else Progress()
    try:
        with joined(progress, heartbeat=given["heartbeat"]) as processes:
            job = Job(*(*given["parts"], progress, Stopwatch(), processes))
            # After a restart, training goes on where it was.
            report = job.run(given["chosen"], resume=given["resume"] or starts > 0)
    except ProcessLost:
        raise
    except KerasPeftError as error:
        ray.get(relay.refused.remote(type(error).__name__, str(error)))
        return
    finally:
        if isinstance(progress, RelayedProgress):
            progress.flush()
    if rank == 0:
        ray.get(relay.done.remote(report))


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def _started(work: Callable[[], None]) -> Callable[[], bool]:
    """Starts work in a thread, and returns a function that says whether it has ended, or raises its error."""
    failure: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def ended() -> bool:
        if failure:
            raise ProcessLost(f"Ray could not train ({reason_of(failure[0])}).") from failure[0]
        return not thread.is_alive()

    return ended
