"""Default length of a row, and the ways to handle longer rows."""

from __future__ import annotations

DEFAULT_MAX_LENGTH = 128
"""Default maximum tokens per row."""
LONG_TEXT = ("cut", "window")
"""Ways to handle rows that are too long."""
