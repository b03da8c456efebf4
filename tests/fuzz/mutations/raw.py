"""Mutations of bytes, for files of any format."""

from __future__ import annotations

from random import Random

from fuzz.mutations import Mutation

# Bytes that have a meaning in some format.
_TOKENS = (
    b"\0",
    b"\xff",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",  # an unpaired surrogate
    b"\x1b[2J",
    b"\r",
    b"\n",
    b'"',
    b"{",
    b"[",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\x80\x00\x00\x00\x00\x00\x00\x00",
    b"-1",
    b"NaN",
    b"1e999",
)


def flip(random: Random, content: bytes) -> bytes:
    """Flips up to eight bits."""
    changed = bytearray(content)
    for _ in range(random.randint(1, 8)):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def cut(random: Random, content: bytes) -> bytes:
    """Removes the end, the start or a part."""
    start, stop = sorted((random.randint(0, len(content)), random.randint(0, len(content))))
    return random.choice((content[:start], content[stop:], content[:start] + content[stop:]))


def insert(random: Random, content: bytes) -> bytes:
    """Inserts random bytes, or bytes with a meaning."""
    place = random.randint(0, len(content))
    new = random.choice((random.choice(_TOKENS), random.randbytes(random.randint(1, 64))))
    return content[:place] + new + content[place:]


def overwrite(random: Random, content: bytes) -> bytes:
    """Replaces bytes by others that have a meaning."""
    new = random.choice(_TOKENS)
    place = random.randint(0, max(0, len(content) - len(new)))
    return content[:place] + new + content[place + len(new) :]


def duplicate(random: Random, content: bytes) -> bytes:
    """Repeats a part."""
    start, stop = sorted((random.randint(0, len(content)), random.randint(0, len(content))))
    times = random.choice((1, 1, 2, 50)) if stop - start < 10_000 else 1
    return content[:stop] + content[start:stop] * times + content[stop:]


def move(random: Random, content: bytes) -> bytes:
    """Exchanges two halves."""
    place = random.randint(0, len(content))
    return content[place:] + content[:place]


def replace(random: Random, content: bytes) -> bytes:
    """Replaces everything: by nothing, zeros, noise or the start of another format."""
    return random.choice(
        (
            b"",
            bytes(random.randint(1, 4096)),
            random.randbytes(random.randint(1, 4096)),
            b"PK\x03\x04" + content,
            b"\x1f\x8b\x08" + content,
            b"PAR1" + content,
            b"null",
            b"[]",
            b"{}",
            b"0",
        )
    )


MUTATIONS: tuple[Mutation, ...] = (flip, cut, insert, overwrite, duplicate, move, replace)
