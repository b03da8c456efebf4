"""Errors of the library in the words of the command line: its options are flags there."""

from __future__ import annotations

import re
from collections.abc import Collection

# `max_length`, `max_length=900`, `overwrite=True`.
_OPTION = re.compile(r"`(?P<name>[a-z][a-z0-9_]*)(?:=(?P<value>[^`]*))?`")


def as_flags(message: str, options: Collection[str]) -> str:
    """Writes the options that a message names as flags.

    Args:
        message: A message of the library, which names options in backquotes.
        options: Those that have a flag; what else stands in backquotes stays as it is.

    Example:
        >>> as_flags("`max_length=900` is too long; or set `overwrite=True`.", ["max_length", "overwrite"])
        '--max-length 900 is too long; or set --overwrite.'
    """

    def flag(found: re.Match[str]) -> str:
        value = found["value"]
        # What Python takes as a list, such as `subtopics`, is a flag that is given several times.
        name = next((one for one in (found["name"], found["name"].removesuffix("s")) if one in options), None)
        if name is None:
            return found[0]
        words = name.replace("_", "-")
        if value is None or value == "True":
            return f"--{words}"
        if value == "False":
            return f"--no-{words}"
        bare = value.strip("'\"")
        # As a shell takes it: quotes stay around nothing and around several words.
        return f"--{words} {bare if bare and not any(map(str.isspace, bare)) else value}"

    return _OPTION.sub(flag, message)
