"""Connects the processes of a training, and says what happened when one of them is lost."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from keras_peft.errors import KerasPeftError, OptionError, ProcessLost
from keras_peft.extras import need
from keras_peft.progress import Progress
from keras_peft.training.distributed.environment import HEARTBEAT, Place, place
from keras_peft.training.distributed.processes import Alone, Processes

Found = TypeVar("Found")

WAIT = 120
"""Seconds to wait for all processes to start."""
# What JAX's collectives and its coordination service say when a process is gone.
_LOST = re.compile(r"\b(gloo|nccl\w*|coordination (service|agent)|distributed service|heartbeat)\b", re.I)


@contextmanager
def joined(progress: Progress, *, heartbeat: int = HEARTBEAT) -> Iterator[Processes]:
    """Connects this process with the others that the environment variables describe.

    Args:
        progress: Is told that the process waits.
        heartbeat: Seconds without a sign of life after which a process counts as lost, 1 or more.

    Yields:
        The processes.

    Raises:
        OptionError: If the variables or the backend do not fit.
        ProcessLost: If a process does not come, or ends, or does not answer.
    """
    here = place()
    if heartbeat < 1:
        raise OptionError(f"`heartbeat={heartbeat}`: expected 1 second or more.")
    need("Training by several processes", "jax")
    _check_backend(progress)
    first = Progress() if here.rank else progress
    first.stage(f"Waiting for {here.count} processes")
    with _quiet():
        _connect(here, heartbeat)
        from keras_peft.training.distributed.jax_processes import JaxProcesses

        with _told(here):
            processes = JaxProcesses()
            processes.gathered(None)  # Connects the processes, which prints.
    with _told(here):
        yield processes


def by_first(processes: Processes, work: Callable[[], Found]) -> Found:
    """Does work in the first process only, and returns its result in all of them.

    Args:
        processes: The processes.
        work: Returns plain values and arrays; see `packed`.

    Raises:
        KerasPeftError: In all processes, if the work raises one.
    """
    if isinstance(processes, Alone):
        return work()
    outcome: dict[str, Any] = {}
    if processes.rank == 0:
        try:
            outcome["found"] = work()
        except KerasPeftError as error:
            processes.gathered({"error": str(error)})
            raise
    first = processes.gathered(outcome)[0]
    if "error" in first:
        raise KerasPeftError(first["error"])
    found: Found = first["found"]
    return found


def _check_backend(progress: Progress) -> None:
    with progress.importing():
        import keras
    if (backend := keras.config.backend()) != "jax":
        raise OptionError(
            f"`distributed=True` needs the JAX backend, and this is {backend}: Keras 3 cannot train by several "
            "processes on TensorFlow. Set the environment variable KERAS_BACKEND=jax."
        )


def _connect(here: Place, heartbeat: int) -> None:
    import jax

    if jax.distributed.is_initialized():
        return
    try:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")  # type: ignore[no-untyped-call]
        jax.distributed.initialize(
            here.address,
            None if here.address is None else here.count,
            None if here.address is None else here.rank,
            heartbeat_timeout_seconds=heartbeat,
            initialization_timeout=WAIT,
        )
    except RuntimeError as error:
        if "before" in str(error):
            raise OptionError(
                "`distributed=True`: JAX has already been used in this process. Start the training in a new one."
            ) from None
        raise ProcessLost(
            f"Not all of the {here.count} processes have come within {WAIT} s (this is number {here.rank}, the first "
            f"is at {here.address or 'the address of the launcher'}). Check that all are started and reach that "
            "address."
        ) from None


@contextmanager
def _told(here: Place) -> Iterator[None]:
    """Turns the errors of a lost connection into one that says what happened."""
    try:
        yield
    except KerasPeftError:
        raise
    except Exception as error:
        if not is_of_lost_process(error):
            raise
        found = ProcessLost(lost(here.rank, here.count))
        for note in getattr(error, "__notes__", ()):  # That a checkpoint is kept.
            found.add_note(note)
        raise found from error


def is_of_lost_process(error: Exception) -> bool:
    """Returns whether an error says that the connection to another process is lost.

    Args:
        error: The error, of JAX or of anything else that runs in a training.
    """
    return _LOST.search(str(error)) is not None


def lost(rank: int, count: int) -> str:
    """Says that another process is lost.

    Args:
        rank: Number of this process.
        count: Number of processes.
    """
    return (
        "Another process of this training ended or does not answer, so this one, number "
        f"{rank} of {count}, has stopped as well."
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences what the native code of the connection prints."""
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        yield
    finally:
        for number, one in enumerate(kept, 1):
            os.dup2(one, number)
            os.close(one)
        os.close(nowhere)
