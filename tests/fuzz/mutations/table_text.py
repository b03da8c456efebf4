"""Mutations of tables and texts, line by line."""

from __future__ import annotations

from random import Random

from fuzz.mutations import Mutation

_CELLS = (
    *(
        "",
        '"',
        '""',
        "'",
        '"a',
        'a"b',
        "=1+1",
        "\0",
        "\x1b[2J",
        "NaN",
        "-1",
        "1e999",
        "9" * 5000,
        "x" * 200_000,
    ),
    *(
        "\ud83d",
        "é",
        "\t",
        ",",
        ";",
        "|",
        "\r",
        "B-x",
        "I-x",
        "O",
        "__label__a",
        "[1, 2]",
        "{}",
        "#",
        "sep=;",
    ),
)
_ENCODINGS = ("utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-8-sig", "utf-7")


def line(random: Random, content: bytes) -> bytes:
    """Drops, repeats, exchanges, joins or empties a line."""
    every = content.split(b"\n")
    one, other = random.randrange(len(every)), random.randrange(len(every))
    random.choice(
        (
            lambda: every.pop(one),
            lambda: every.insert(one, every[other]),
            lambda: every.__setitem__(slice(None), [*every[one:], *every[:one]]),
            lambda: every.__setitem__(one, b""),
            lambda: every.__setitem__(one, every[one] + every[other]),
            lambda: every.__setitem__(slice(one, one), [every[other]] * 2000),
        )
    )()
    return b"\n".join(every)


def cell(random: Random, content: bytes) -> bytes:
    """Writes a cell, with a separator, somewhere in a line."""
    new = random.choice(_CELLS) * random.choice((1, 1, 2))
    new = random.choice(("", ",", "\t", " ", ";")) + new + random.choice(("", ",", "\t", " ", "\n"))
    place = random.randint(0, len(content))
    return content[:place] + new.encode("utf-8", "surrogatepass") + content[place:]


def columns(random: Random, content: bytes) -> bytes:
    """Gives one line very many cells."""
    every = content.split(b"\n")
    place = random.randrange(len(every))
    every[place] += random.choice((b",", b"\t", b";")) * random.choice((1, 20, 20_000))
    return b"\n".join(every)


def encoding(random: Random, content: bytes) -> bytes:
    """Writes the text in another encoding."""
    return content.decode("utf-8", "replace").encode(random.choice(_ENCODINGS), "replace")


MUTATIONS: tuple[Mutation, ...] = (line, line, cell, cell, columns, encoding)
