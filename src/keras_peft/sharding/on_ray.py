"""Workers on Ray that write parts: actors, which Ray starts again where one is killed.

Ray's own way to write files gathers the rows of many tasks in one file at the end. Here each task writes its own part,
so what is finished stays finished, whatever is killed. Ray gives shards to actors again whose process has ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from keras_peft import cluster
from keras_peft.errors import OptionError, reason_of
from keras_peft.progress import Progress
from keras_peft.sharding.parts import Done, Job, PartWriter
from keras_peft.sharding.plan import Shard
from keras_peft.sharding.worker import answer_to
from keras_peft.sharding.workers import THREADS, TRIES, killed, result_of

# Shards that an actor has at a time, so that it need not wait for the next one.
_AHEAD = 2
# How often Ray starts an actor again.
_RESTARTS = 100
# Seconds after which the main thread looks up, so that Ctrl-C is noticed.
_PATIENCE = 0.5


class PartActor:
    """What runs in the process of an actor.

    Args:
        job: What all parts share.
    """

    def __init__(self, job: Job) -> None:
        # Its one core, for libraries that do not read what Ray sets.
        os.environ.update(dict.fromkeys(THREADS, os.environ.get("OMP_NUM_THREADS", "1")))
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        self._writer = PartWriter(job)

    def ready(self) -> None:
        """Returns when the actor runs."""

    def write(self, shard: Shard) -> dict[str, Any]:
        """Writes the part of a shard; see `worker.answer_to`."""
        return answer_to(self._writer, shard)


class RayWriters:
    """Writes parts on Ray; see `Writer`.

    Args:
        job: What all parts share.
        workers: Number of actors, each with one core; by default as many as the cluster has cores.
        most: Number of shards.
        progress: Receives progress events.

    Raises:
        ExtraNotInstalled: If Ray is not installed.
        OptionError: If Ray cannot be started or reached.
    """

    def __init__(self, job: Job, workers: int | None, most: int, progress: Progress) -> None:
        progress.stage("Starting Ray, or joining it")
        self._stack = ExitStack()
        self._ray = self._stack.enter_context(cluster.joined("Predicting on Ray", cores=workers))
        cores = int(self._ray.cluster_resources().get("CPU", 1))
        count = min(workers or cores, most)
        progress.stage(f"Starting {count} worker{'s' if count > 1 else ''} on Ray, which has {cores} cores")
        kind = self._ray.remote(PartActor).options(
            num_cpus=1, max_restarts=_RESTARTS, max_task_retries=TRIES - 1
        )
        shared = self._ray.put(job)
        self._actors = [kind.remote(shared) for _ in range(count)]

    def write(self, shards: Iterator[Shard], advance: Callable[[int], None]) -> Iterator[Done]:
        """Writes the parts of shards; see `Writer`."""
        # An actor gets shards once it runs, so that those of a cluster that grows are used as they come.
        starting = {actor.ready.remote(): actor for actor in self._actors}
        running: dict[Any, tuple[Any, Shard]] = {}
        idle: list[Any] = []
        is_over = False
        while running or not is_over:
            while idle and not is_over:
                shard = next(shards, None)
                is_over = shard is None
                if shard is not None:
                    actor = idle.pop(0)
                    running[actor.write.remote(shard)] = actor, shard
            for reference in self._ended([*starting, *running]):
                if reference in starting:
                    actor = starting.pop(reference)
                    self._result(reference, None)
                    idle += [actor] * _AHEAD
                    continue
                actor, shard = running.pop(reference)
                done = result_of(self._result(reference, shard))
                idle.append(actor)
                advance(done.rows)
                yield done

    def close(self) -> None:
        """Ends the actors, and leaves Ray."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        self._stack.close()

    def _ended(self, references: list[Any]) -> list[Any]:
        """Waits until one has ended, or for a moment."""
        if not references:
            return []
        ended, _ = self._ray.wait(references, num_returns=1, timeout=_PATIENCE)
        return list(ended)

    def _result(self, reference: Any, shard: Shard | None) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            if shard is not None and isinstance(error, self._ray.exceptions.RayActorError):
                raise OptionError(killed(shard)) from error
            raise OptionError(
                f"A worker on Ray failed ({type(error).__name__}: {reason_of(error)}); expected the same keras-peft "
                "and Python on all machines of the cluster."
            ) from error
