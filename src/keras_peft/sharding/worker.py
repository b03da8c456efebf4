"""A process that writes parts: `python -m keras_peft.sharding.worker`.

It reads a job and then one shard after another from stdin, and answers on stdout, each as a pickle. When the process
that started it ends, however it ends, so does this one.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from typing import IO, Any

from keras_peft.errors import KerasPeftError
from keras_peft.sharding.parts import PartWriter
from keras_peft.sharding.plan import Shard


def main() -> None:
    """Writes parts until stdin is closed."""
    # The process that started this one decides; Ctrl-C on a terminal reaches both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # What libraries print must not end up between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    asked = _asked(sys.stdin.buffer)
    # The job and the shards come from the process that started this one.
    writer = PartWriter(asked.get())
    while True:
        pickle.dump(answer_to(writer, asked.get()), answers)
        answers.flush()


def answer_to(writer: PartWriter, shard: Shard) -> dict[str, Any]:
    """Writes the part of a shard.

    Args:
        writer: Writes it.
        shard: The shard.

    Returns:
        `done` with a `Done`, `refused` with a message for the user, or `failed` with a traceback.
    """
    try:
        return {"done": writer.write_part(shard)}
    except KerasPeftError as error:
        return {"refused": str(error)}
    except Exception:
        return {"failed": traceback.format_exc()}


def _asked(stream: IO[bytes]) -> queue.Queue[Any]:
    """Returns the objects in a stream as they come; ends the process with the stream, even during a prediction."""
    found: queue.Queue[Any] = queue.Queue()

    def read() -> None:
        try:
            while True:
                found.put(pickle.load(stream))
        finally:
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return found


if __name__ == "__main__":
    main()
