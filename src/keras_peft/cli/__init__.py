"""The command line: one file, one command. Only here is anything printed, and only here does it exit.

Exit codes: 0 done; 1 findings of a strict check; 2 the user's mistake, told in one sentence; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from keras_peft.errors import ExtraNotInstalled
from keras_peft.extras import EXTRAS, need


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits.

    Args:
        arguments: What follows the program's name; those of this process by default.
    """
    try:
        need("The command line", *EXTRAS["train"])
    except ExtraNotInstalled as error:
        print(f"keras-peft: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    from keras_peft.cli.application import run

    run(arguments)
