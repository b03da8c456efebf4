"""How long a row may be, and what to do with longer ones."""

from __future__ import annotations

DEFAULT_MAX_LENGTH = 128
"""Maximum tokens of a row where none is named."""
LONG_TEXT = ("cut", "window")
"""What can be done with rows that are too long."""
