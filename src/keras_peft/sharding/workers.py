"""Other processes of this machine that write parts, each with its share of the cores."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from typing import Any

from keras_peft.child_process import ChildProcess, Killed
from keras_peft.errors import OptionError
from keras_peft.runtime.cores import available_cores
from keras_peft.sharding.parts import Done, Job
from keras_peft.sharding.plan import Shard

# How often a shard is tried whose process is killed.
TRIES = 3
# Seconds after which the main thread looks up, so that Ctrl-C is noticed.
_PATIENCE = 0.5


class WorkerProcesses:
    """Writes parts in other processes; see `Writer`.

    Args:
        job: What all parts share.
        count: Number of processes.
    """

    def __init__(self, job: Job, count: int) -> None:
        threads = max(1, available_cores() // count)
        own = replace(job, plan=job.plan.without_files())
        self._processes = [WorkerProcess(own, threads) for _ in range(count)]
        self._idle: queue.Queue[WorkerProcess] = queue.Queue()
        for process in self._processes:
            self._idle.put(process)
        self._threads = ThreadPoolExecutor(count)

    def write(self, shards: Iterator[Shard], advance: Callable[[int], None]) -> Iterator[Done]:
        """Writes the parts of shards; see `Writer`."""
        running: set[Future[Done]] = set()
        for shard in shards:
            running.add(self._threads.submit(self._write, shard))
            # One more than there are processes is ready for the next idle one.
            while len(running) > len(self._processes):
                yield from _finished(running, advance)
        while running:
            yield from _finished(running, advance)

    def close(self) -> None:
        """Ends the processes."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for process in self._processes:
            process.close()
        self._threads.shutdown()

    def _write(self, shard: Shard) -> Done:
        process = self._idle.get()
        try:
            for _ in range(TRIES):
                with suppress(Killed):
                    return process.write(shard)
            raise OptionError(killed(shard))
        finally:
            self._idle.put(process)


class WorkerProcess:
    """A process that writes parts, which is started for the first one, and again after it was killed.

    Args:
        job: What all parts share.
        threads: Number of threads that it computes with.
    """

    def __init__(self, job: Job, threads: int) -> None:
        self._job, self._threads = job, threads
        self._child: ChildProcess | None = None
        self._is_closed = False

    def write(self, shard: Shard) -> Done:
        """Writes the part of a shard.

        Raises:
            Killed: If the process ends.
            OptionError: If the bundle cannot predict the rows, or the part cannot be written.
            RuntimeError: If anything else goes wrong there.
        """
        child = self._child or self._start()
        child.send(shard)
        try:
            return result_of(child.receive())
        except Killed:
            self._end()
            raise

    def close(self) -> None:
        """Ends the process, and starts it never again."""
        self._is_closed = True
        self._end()

    @property
    def pid(self) -> int | None:
        """The process's id, None if it is not running."""
        return None if self._child is None else self._child.pid

    def _start(self) -> ChildProcess:
        if self._is_closed:
            raise Killed("its process was ended")
        self._child = ChildProcess("keras_peft.sharding.worker", threads=self._threads)
        self._child.send(self._job)
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()


def result_of(answer: dict[str, Any]) -> Done:
    """Returns what a worker wrote.

    Args:
        answer: Its answer; see `worker.answer_to`.

    Raises:
        OptionError: If it refused.
        RuntimeError: If it failed.
    """
    if "refused" in answer:
        raise OptionError(answer["refused"])
    if "failed" in answer:
        raise RuntimeError(f"A worker failed:\n{answer['failed']}")
    done: Done = answer["done"]
    return done


def killed(shard: Shard) -> str:
    """Returns the message for a shard whose worker is killed each time.

    Args:
        shard: The shard.
    """
    return (
        f"The worker that predicted the rows {shard.rows[0][0]} to {shard.rows[-1][0]} of {shard.source} was killed "
        f"{TRIES} times, perhaps for lack of memory; use fewer `workers`, or set `rows_per_shard` lower."
    )


def _finished(running: set[Future[Done]], advance: Callable[[int], None]) -> Iterator[Done]:
    """Waits for parts, and yields them."""
    ended, _ = wait(running, timeout=_PATIENCE, return_when=FIRST_COMPLETED)
    for future in ended:
        running.discard(future)
        done = future.result()
        advance(done.rows)
        yield done
