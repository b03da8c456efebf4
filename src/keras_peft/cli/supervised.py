"""The watched process of `supervision`: `python -m keras_peft.cli.supervised` and the arguments of a command."""

from __future__ import annotations

import os
import sys
import threading
from typing import TextIO

from keras_peft.cli import main
from keras_peft.cli.supervision import LOG


def run() -> None:
    """Runs the command line, and ends with the process that started this one."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout, sys.stderr = _apart(sys.stdout), _apart(sys.stderr)
    log = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(log, number)
    try:
        main(sys.argv[1:])
    except SystemExit as error:
        sys.stdout.flush()
        sys.stderr.flush()
        if error.code:  # JAX would wait at exit for processes that may be gone.
            os._exit(error.code if isinstance(error.code, int) else 1)
        raise
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


def _apart(stream: TextIO) -> TextIO:
    """Returns the stream on a file descriptor of its own, which native code does not write to."""
    return os.fdopen(
        os.dup(stream.fileno()), "w", buffering=1, encoding=stream.encoding, errors=stream.errors
    )


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    run()
