"""Other processes of this machine that write parts, each with its share of the cores."""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from keras_peft.errors import OptionError
from keras_peft.runtime.cores import available_cores
from keras_peft.sharding.parts import Done, Job
from keras_peft.sharding.plan import Shard

# How often a shard is tried whose process is killed.
TRIES = 3
# Seconds after which the main thread looks up, so that Ctrl-C is noticed.
_PATIENCE = 0.5
THREADS = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


class Killed(Exception):
    """Raised when a process ends in the middle of a shard; the message says how."""


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
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._is_closed = False

    def write(self, shard: Shard) -> Done:
        """Writes the part of a shard.

        Raises:
            Killed: If the process ends.
            OptionError: If the bundle cannot predict the rows, or the part cannot be written.
            RuntimeError: If anything else goes wrong there.
        """
        try:
            process = self._process or self._start()
            if process.stdin is None or process.stdout is None:
                raise Killed
            pickle.dump(shard, process.stdin)
            process.stdin.flush()
            answer = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.UnpicklingError, ValueError):
            self._end()
            raise Killed from None
        return result_of(answer)

    def close(self) -> None:
        """Ends the process, and starts it never again."""
        self._is_closed = True
        self._end()

    @property
    def pid(self) -> int | None:
        """The process's id, None if it is not running."""
        return None if self._process is None else self._process.pid

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, self._said):
            if stream is not None:
                with suppress(OSError):  # Something was still to be written.
                    stream.close()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._is_closed:
            raise EOFError
        source = str(Path(__file__).parents[2])
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (open as long as the process runs)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "keras_peft.sharding.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={
                **os.environ,
                **dict.fromkeys(THREADS, str(self._threads)),
                "PYTHONPATH": os.pathsep.join(paths),
            },
        )
        if self._process.stdin is not None:
            pickle.dump(self._job, self._process.stdin)
        return self._process


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
