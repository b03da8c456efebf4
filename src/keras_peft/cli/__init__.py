"""The command line: one file, one command. Only here is anything printed, and only here does it exit.

Exit codes: 0 done; 1 findings of a strict check; 2 the user's mistake, told in one sentence; 130 interrupted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits.

    Args:
        arguments: What follows the program's name; those of this process by default.
    """
    from keras_peft.cli.application import run

    run(arguments)
