"""Mutations of TOML files."""

from __future__ import annotations

import tomllib
from random import Random

from fuzz.mutations import Mutation, raw, structure, table_text

# tomllib takes more than a second for such a file.
_SLOW = 4 << 20


def values(random: Random, content: bytes) -> bytes:
    """Changes one to three values; a value that TOML does not have changes bytes instead."""
    import tomli_w

    if len(content) > _SLOW:  # An earlier mutation repeated a value very often.
        return raw.flip(random, content)
    try:
        found = tomllib.loads(content.decode())
        for _ in range(random.choice((1, 1, 2, 3))):
            found = structure.edit(random, found)
        return tomli_w.dumps(found).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        return raw.flip(random, content)


def deep(random: Random, content: bytes) -> bytes:
    """Adds a value that nests deeply, or a table of many parts."""
    depth = random.choice((50, 5000))
    return content + random.choice(
        (
            b"\nx = " + b"[" * depth + b"]" * depth,
            b"\n[" + b"a." * depth + b"a]\n",
            b"\nx = " + b"{a=" * depth + b"1" + b"}" * depth,
            b"\nx = " + b"9" * 10_000,
        )
    )


MUTATIONS: tuple[Mutation, ...] = (values, values, values, values, deep, table_text.line, *raw.MUTATIONS)
