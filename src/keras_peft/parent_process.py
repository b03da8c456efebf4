"""Connects a process with the one that started it as a `ChildProcess`."""

from __future__ import annotations

import os
import pickle
import threading
import traceback
from collections.abc import Callable
from typing import IO, Any


def connect(take: Callable[[Any], object]) -> Callable[[Any], None]:
    """Connects this process with the one that started it.

    When that one ends, however it ends, so does this one, also in the middle of its work.

    Args:
        take: Called with each message, in a thread of its own.

    Returns:
        Sends a message; any thread may call it.

    Example:
        >>> asked = queue.Queue()
        >>> send = connect(asked.put)
        >>> send(answer_to(asked.get()))
    """
    # What libraries print must not end up between the messages.
    messages, sending = os.fdopen(os.dup(1), "wb"), threading.Lock()
    os.dup2(2, 1)
    # Python aborts at its end if a thread still reads `sys.stdin`.
    stream = os.fdopen(os.dup(0), "rb")
    threading.Thread(target=_read, args=(stream, take), daemon=True).start()

    def send(message: Any) -> None:
        data = pickle.dumps(message)
        try:
            with sending:
                messages.write(data)
                messages.flush()
        except OSError:  # Nobody listens any more.
            os._exit(1)

    return send


def _read(stream: IO[bytes], take: Callable[[Any], object]) -> None:
    """Passes on the messages, and ends the process when no more can come."""
    code = 0
    try:
        while True:
            # They come from the process that started this one.
            take(pickle.load(stream))
    except EOFError:
        pass
    except BaseException:  # For example another version of a class.
        traceback.print_exc()
        code = 1
    os._exit(code)
