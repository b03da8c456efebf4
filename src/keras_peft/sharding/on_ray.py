"""Workers on Ray that write parts: actors, which Ray starts again where one is killed.

Ray's own way to write files gathers the rows of many tasks in one file at the end. Here each task writes its own part,
so what is finished stays finished, whatever is killed. Ray starts actors again that were killed, and their shards are
given to any of them again. Ray's own retries would also count for shards that only waited for the actor.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from keras_peft import cluster
from keras_peft.child_process import THREADS
from keras_peft.errors import OptionError, reason_of
from keras_peft.progress import Progress
from keras_peft.sharding.parts import Done, Job, PartWriter
from keras_peft.sharding.plan import Shard
from keras_peft.sharding.worker import answer_to
from keras_peft.sharding.workers import TRIES, killed, result_of

# Shards that an actor has at a time, so that it need not wait for the next one.
_AHEAD = 2
# How often Ray starts an actor again.
_RESTARTS = 100
# Seconds after which the main thread looks up, so that Ctrl-C is noticed.
_PATIENCE = 0.5
# Seconds after which it is said that no worker runs.
_LONG = 120.0


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


@dataclass(eq=False)
class _Worker:
    """An actor, and what it has to do.

    Attributes:
        actor: The actor.
        starting: What is ready once the actor runs, None if it does.
        running: Its shards with their answers to come. It writes them in this order.
    """

    actor: Any
    starting: Any
    running: deque[tuple[Any, Shard]] = field(default_factory=deque)

    @property
    def next(self) -> Any:
        """What is ready next."""
        return self.running[0][0] if self.starting is None else self.starting


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
        count = min(workers or max(1, cores), most)
        progress.stage(f"Starting {count} worker{'s' if count > 1 else ''} on Ray, which has {cores} cores")
        kind = self._ray.remote(PartActor).options(num_cpus=1, max_restarts=_RESTARTS)
        # Actors run in another folder.
        own = replace(job, plan=job.plan.without_files(), base=cluster.absolute(job.base))
        actors = [kind.remote(own) for _ in range(count)]
        # Shards are given to actors that run, so that those of a cluster that grows are used as they come.
        self._workers = [_Worker(actor, self._ready(actor)) for actor in actors]
        self._lost: deque[Shard] = deque()
        self._tries = Counter[int]()
        self._progress, self._told_after = progress, time.monotonic() + _LONG

    def write(self, shards: Iterator[Shard], advance: Callable[[int], None]) -> Iterator[Done]:
        """Writes the parts of shards; see `Writer`."""
        left = next(shards, None)
        while left is not None or self._lost or any(worker.running for worker in self._workers):
            while (worker := self._free()) is not None:
                if self._lost:
                    shard = self._lost.popleft()
                elif left is not None:
                    shard, left = left, next(shards, None)
                else:
                    break
                worker.running.append((worker.actor.write.remote(shard), shard))
            for done in self._finished():
                advance(done.rows)
                yield done

    def close(self) -> None:
        """Ends the actors, and leaves Ray."""
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers = []
        self._stack.close()

    def _ready(self, actor: Any) -> Any:
        return actor.ready.options(max_task_retries=-1).remote()

    def _free(self) -> _Worker | None:
        """Returns the worker with the fewest shards, None if all have enough."""
        free = [one for one in self._workers if one.starting is None and len(one.running) < _AHEAD]
        return min(free, key=lambda one: len(one.running), default=None)

    def _finished(self) -> Iterator[Done]:
        """Waits until a part is written or an actor runs, and yields the parts."""
        awaited = {one.next: one for one in self._workers if one.starting is not None or one.running}
        ended, _ = self._ray.wait(list(awaited), num_returns=1, timeout=_PATIENCE)
        if not ended:
            self._tell_of_waiting()
        for reference in ended:
            worker = awaited[reference]
            try:
                answer = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as error:
                self._restart(worker, error)
            except self._ray.exceptions.RayError as error:
                raise _failed(error) from error
            else:
                if worker.starting is not None:
                    worker.starting = None
                else:
                    worker.running.popleft()
                    yield result_of(answer)

    def _tell_of_waiting(self) -> None:
        """Says once that no worker runs, for example because others use all cores of the cluster."""
        if time.monotonic() > self._told_after and all(one.starting is not None for one in self._workers):
            self._told_after = math.inf
            self._progress.note("no worker runs on Ray yet; they wait for free cores of the cluster.")

    def _restart(self, worker: _Worker, error: Exception) -> None:
        """Waits until Ray has started an actor again that was killed, and takes its shards back.

        Raises:
            OptionError: If it cannot be started, or its shard has killed an actor too often.
        """
        if worker.starting is not None:
            raise _failed(error) from error
        # The others were only waiting.
        _, shard = worker.running[0]
        self._tries[shard.number] += 1
        if self._tries[shard.number] == TRIES:
            raise OptionError(killed(shard)) from error
        self._lost.extend(shard for _, shard in worker.running)
        worker.running.clear()
        worker.starting = self._ready(worker.actor)


def _failed(error: Exception) -> OptionError:
    return OptionError(
        f"A worker on Ray failed ({type(error).__name__}: {reason_of(error)}); expected the same keras-peft and Python "
        "on all machines of the cluster."
    )
