"""A process that does what messages say: `[action, argument]`."""

from __future__ import annotations

import os
import queue
import sys
import threading
from typing import Any

from keras_peft.parent_process import connect


def main() -> None:
    """Does one thing after another."""
    asked = queue.Queue[Any]()
    answer = connect(asked.put)
    while True:
        action, argument = asked.get()
        if action == "variables":
            answer([os.environ.get(name) for name in argument])
        elif action == "print":
            sys.stdout.write(argument)
            os.write(1, argument.encode())
            sys.stdout.flush()
            answer("printed")
        elif action == "end":
            sys.exit(argument)
        elif action == "hang":
            answer("hangs")
            threading.Event().wait()
        else:
            answer([action, argument])


if __name__ == "__main__":
    main()
