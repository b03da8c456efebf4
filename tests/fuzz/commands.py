"""Runs `keras-peft` in this process, without turning errors into messages."""

from __future__ import annotations

import contextlib
import io
import re

from fuzz.artifact import Wrong

# What a terminal would obey.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def command(*arguments: object) -> str:
    """Runs a command, and returns what it prints.

    Args:
        arguments: Its arguments.

    Raises:
        KerasPeftError: If the command refuses its input.
        Wrong: If it prints characters that a terminal would obey.
    """
    import typer

    from keras_peft.cli.application import build
    from keras_peft.errors import OptionError

    words = [str(argument) for argument in arguments]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            build(words)(words, prog_name="keras-peft", standalone_mode=False)
        except typer.TyperException as error:  # an argument that Typer refuses
            raise OptionError(error.format_message()) from None
    if found := _CONTROLS.search(printed.getvalue()):
        raise Wrong(f"it prints the control character {found[0]!r}")
    return printed.getvalue()
