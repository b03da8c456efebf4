"""Fields of the dataclasses that define both the Python API and the command line's flags."""

from __future__ import annotations

from dataclasses import field
from typing import Any


def setting(default: Any, help: str, *, shown: str | None = None, choices: tuple[str, ...] = ()) -> Any:
    """Defines a dataclass field that also becomes a command line flag.

    Args:
        default: Default value.
        help: Description for the help page.
        shown: How the help page shows the default, if the value itself is not informative.
        choices: The allowed words.
    """
    return field(default=default, metadata={"help": help, "shown": shown, "choices": choices})


def default_text(value: Any) -> str:
    """Formats the default of a method's option, for help pages and the docs."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
