"""A process that watches one of several training processes, and says in a sentence how it ended.

When JAX loses another process, it may end its own at once, with pages of output and without an exception. So the
training runs in a child process, whose native output goes to a file.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from keras_peft.errors import KerasPeftError, ProcessLost

LOG = "KERAS_PEFT_NATIVE_LOG"
"""Variable with the file for the native output of the child process."""
_FLAG = "--distributed"
# Native output when the coordination service has lost a process.
_LOST = re.compile(rb"distributed service|coordination service|heartbeat", re.I)
_KEPT = "If an epoch was complete, it is kept; continue it with `resume=True`."


def is_needed(arguments: Sequence[str], settings: Mapping[str, Any]) -> bool:
    """Returns whether a command trains together with other processes, and is not watched yet.

    Args:
        arguments: Command-line arguments, without the program's name.
        settings: Values from the file of `--config`.
    """
    is_asked = _FLAG in arguments or settings.get(_FLAG.removeprefix("--")) is True
    return is_asked and "--help" not in arguments and LOG not in os.environ


def watch(arguments: Sequence[str]) -> int:
    """Runs a command in a child process.

    Args:
        arguments: Command-line arguments, without the program's name.

    Returns:
        Its exit code.

    Raises:
        ProcessLost: If it was ended because another process was lost.
        KerasPeftError: If it was ended by a signal.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        # The child ends when its stdin does, so when this process ends, however it ends.
        child = subprocess.Popen(
            # With -P, modules in the working directory, where a stranger's files may be, are not imported.
            [sys.executable, "-P", "-m", "keras_peft.cli.supervised", *arguments],
            stdin=subprocess.PIPE,
            env={**os.environ, LOG: str(log)},
            start_new_session=True,  # Signals of the terminal are passed on once, by this process.
        )

        def pass_on(number: int, frame: FrameType | None) -> None:
            child.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if child.stdin is not None:
                child.stdin.close()
        if code >= 0:
            return code
        # Who kills a process sends no message.
        if code != -signal.SIGKILL and _LOST.search(log.read_bytes()):
            raise ProcessLost(
                f"Another process of this training ended or does not answer, so this one has stopped as well. {_KEPT}"
            )
    name = signal.Signals(-code).name
    reason = ", for example because memory ran out" if name == "SIGKILL" else ""
    raise KerasPeftError(f"The training process was ended by {name}{reason}. {_KEPT}")
