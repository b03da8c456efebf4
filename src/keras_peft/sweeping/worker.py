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
from collections.abc import Callable
from typing import IO, Any, NoReturn

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

    def tell(message: dict[str, Any]) -> None:
        messages.write(json.dumps(message) + "\n")
        messages.flush()

    run_trials(InProcess(job, Progress()), answers, tell)


def run_trials(
    runner: InProcess, answers: queue.Queue[Any], tell: Callable[[dict[str, Any]], None]
) -> NoReturn:
    """Runs one trial after another; see `InWorker`.

    Args:
        runner: Runs them.
        answers: Gives choices, as their attributes, and for each report whether to go on.
        tell: Takes reports, as `rung` and `score`, and how trials end: `outcome` with the attributes of an `Outcome`,
            `stopped`, `refused` with a message for the user, or `failed` with a traceback.
    """
    while True:
        tell(_run(runner, Choice(**answers.get()), answers, tell))


def _run(
    runner: InProcess, choice: Choice, answers: queue.Queue[Any], tell: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Runs a trial and returns how it ended."""

    def report(rung: int, score: float) -> bool:
        tell({"rung": rung, "score": score})
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
