"""Fields of the dataclasses that are at once a Python API and flags of the command line."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(default: Any, help: str, *, shown: str | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A field with what the command line makes a flag of.

    Args:
        default: Its default.
        help: What it does, for the help page.
        shown: How the help page shows the default, where that says nothing by itself.
        choices: The words that it may be.
    """
    return field(default=default, metadata={"help": help, "shown": shown, "choices": choices})
