"""A process that runs trials for a sweep: `python -m keras_peft.sweeping.worker`.

It reads a job and then one choice after another from stdin, and writes what happens to stdout, one JSON object per
line. When the process that started it ends, however it ends, so does this one.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from typing import IO, Any

from keras_peft.errors import KerasPeftError
from keras_peft.progress import Progress
from keras_peft.sweeping.space import Choice
from keras_peft.sweeping.trial import InProcess, Stopped


def main() -> None:
    """Runs trials until stdin is closed."""
    # The process that started this one decides; Ctrl-C on a terminal reaches both.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # What libraries print must not end up between the messages.
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    size = int.from_bytes(sys.stdin.buffer.read(8), "big")
    # The job comes from the process that started this one.
    job = pickle.loads(sys.stdin.buffer.read(size))
    answers = _answers(sys.stdin.buffer)
    runner = InProcess(job, Progress())
    while True:
        choice = Choice(**answers.get())
        _tell(messages, **_run(runner, choice, messages, answers))


def _run(runner: InProcess, choice: Choice, messages: IO[str], answers: queue.Queue[Any]) -> dict[str, Any]:
    """Runs a trial and returns how it ended."""

    def report(rung: int, score: float) -> bool:
        _tell(messages, rung=rung, score=score)
        return bool(answers.get())

    try:
        outcome = runner.train(choice, report)
    except Stopped:
        return {"stopped": True}
    except KerasPeftError as error:
        return {"refused": str(error)}
    except Exception:
        return {"failed": traceback.format_exc()}
    return {"outcome": {**vars(outcome), "metrics": dict(outcome.metrics)}}


def _tell(messages: IO[str], **content: Any) -> None:
    messages.write(json.dumps(content) + "\n")
    messages.flush()


def _answers(stream: IO[bytes]) -> queue.Queue[Any]:
    """Returns the lines of a stream as they come; ends the process with the stream, even during a training."""
    found: queue.Queue[Any] = queue.Queue()

    def read() -> None:
        for line in stream:
            found.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return found


if __name__ == "__main__":
    main()
