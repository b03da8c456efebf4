"""A process that runs trials for a sweep: it gets a job and then one choice after another."""

from __future__ import annotations

import queue
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from keras_peft.errors import KerasPeftError
from keras_peft.parent_process import connect
from keras_peft.progress import Progress
from keras_peft.sweeping.space import Choice
from keras_peft.sweeping.trial import InProcess, Stopped


def main() -> None:
    """Runs trials until the process that started this one ends it."""
    answers = queue.Queue[Any]()
    tell = connect(answers.put)
    run_trials(InProcess(answers.get(), Progress()), answers, tell)


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


if __name__ == "__main__":
    main()
