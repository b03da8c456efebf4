"""The command line, with one file per command. Only this package prints or exits.

Exit codes: 0 success; 1 findings of a strict check; 2 user error, with a message; 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from keras_peft.errors import ExtraNotInstalled
from keras_peft.extras import need


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits.

    Args:
        arguments: Command-line arguments, without the program's name; `sys.argv` by default.
    """
    try:
        need("The command line", "rich", "typer", extra="train")
    except ExtraNotInstalled as error:
        print(f"keras-peft: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    from keras_peft.cli.application import run
    from keras_peft.cli.process import end

    try:
        run(arguments)
    except SystemExit as ended:
        # A process of its own, which has imported Keras.
        if arguments is None and "keras" in sys.modules and isinstance(ended.code, int):
            end(ended.code)
        raise
