"""Rewrites the library's error messages for the command line, where options are flags."""

from __future__ import annotations

import re
from collections.abc import Collection

# `max_length`, `max_length=900`, `overwrite=True`.
_OPTION = re.compile(r"`(?P<name>[a-z][a-z0-9_]*)(?:=(?P<value>[^`]*))?`")


def as_flags(message: str, options: Collection[str]) -> str:
    """Replaces the options named in a message by their flags.

    Args:
        message: A message of the library, which names options in backquotes.
        options: Names of the options that have a flag. Other text in backquotes is unchanged.

    Returns:
        The message.

    Example:
        >>> as_flags("`max_length=900` is too long; or set `overwrite=True`.", ["max_length", "overwrite"])
        '--max-length 900 is too long; or set --overwrite.'
    """

    def flag(found: re.Match[str]) -> str:
        value = found["value"]
        # A list in Python, such as `subtopics`, is a repeatable flag, such as --subtopic.
        name = next((one for one in (found["name"], found["name"].removesuffix("s")) if one in options), None)
        if name is None:
            return found[0]
        words = name.replace("_", "-")
        if value is None or value == "True":
            return f"--{words}"
        if value == "False":
            return f"--no-{words}"
        bare = value.strip("'\"")
        # As in a shell: keep the quotes around empty values and values with spaces.
        return f"--{words} {bare if bare and not any(map(str.isspace, bare)) else value}"

    return _OPTION.sub(flag, message)
