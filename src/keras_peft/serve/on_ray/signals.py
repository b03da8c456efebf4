"""Waits for a signal."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Stopping:
    """Whether a signal has come.

    Attributes:
        event: Set by the first signal.
        signal: Its name.
    """

    event: threading.Event = field(default_factory=threading.Event)
    signal: str = ""


@contextmanager
def signalled() -> Iterator[Stopping]:
    """Yields what the first signal changes; the second ends the process as before."""
    stopping = Stopping()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: Any) -> None:
        restore()
        stopping.signal = signal.Signals(number).name
        stopping.event.set()

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        restore()
