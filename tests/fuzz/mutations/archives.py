"""Mutations of compressed files: damaged ones, valid ones with other content, and bombs of a bounded size."""

from __future__ import annotations

import gzip
import io
import zipfile
import zlib
from functools import cache
from itertools import pairwise
from random import Random

from fuzz.mutations import Mutation, raw, table_text

# What a bomb unpacks to. Its readers have no more memory than this many bytes several times.
BOMB = 256 << 20
_NAMES = (
    "../x.csv",
    "/x.csv",
    "x.csv/",
    "a/../../x.csv",
    "x.csv\0.txt",
    "",
    "x" * 60_000 + ".csv",
    "é.csv",
    "x.zip",
    "x.gz",
)


def inner_gzip(random: Random, content: bytes) -> bytes:
    """Compresses changed content."""
    try:
        plain = gzip.decompress(content)
    except (OSError, EOFError, zlib.error):
        return raw.flip(random, content)
    return gzip.compress(random.choice((*raw.MUTATIONS, *table_text.MUTATIONS))(random, plain), 1, mtime=0)


def members(random: Random, content: bytes) -> bytes:
    """Adds to a gzip file another member, or bytes that are none."""
    return content + random.choice((content, b"\0" * 100, b"rest", content[: len(content) // 2]))


@cache
def _megabyte(text: bytes) -> bytes:
    return gzip.compress(text * ((1 << 20) // len(text)), 9, mtime=0)


def bomb_gzip(random: Random, content: bytes) -> bytes:
    """Compresses much text: zeros, one line, empty lines, short lines or many columns."""
    text = random.choice((b"\0", b"a", b"\n", b"a,b\n", b",", b'"', b"[", b'{"text": "a", "label": "b"}\n'))
    return random.choice((content, b"")) + _megabyte(text) * (BOMB >> 20)


def inner_zip(random: Random, content: bytes) -> bytes:
    """Writes the archive again, with one file changed."""
    files = _files(content)
    if not files:
        return raw.flip(random, content)
    name = random.choice(sorted(files))
    files[name] = random.choice((*raw.MUTATIONS, *table_text.MUTATIONS, _entities, _huge_numbers))(
        random, files[name]
    )
    return _written(files)


def names(random: Random, content: bytes) -> bytes:
    """Renames, drops, repeats or adds a file of the archive."""
    files = _files(content)
    if not files:
        return raw.flip(random, content)
    name = random.choice(sorted(files))
    new = random.choice(_NAMES)
    kept = files.pop(name)
    files |= random.choice(({}, {new: kept}, {name: kept, new: kept}, {f"folder/{name}": kept}))
    return _written(files)


def bomb_zip(random: Random, content: bytes) -> bytes:
    """Lets a file of the archive unpack to very much."""
    files = _files(content) or {"data.csv": b"text,label\n"}
    name = random.choice(sorted(files))
    text = random.choice((b"\0", b"a", b"\n", b"a,b\n", b"<a>", b" "))
    files[name] += text * (BOMB // len(text))
    return _written(files)


def told_size(random: Random, content: bytes) -> bytes:
    """Changes the sizes, flags and methods that the archive states."""
    changed = bytearray(content)
    for signature, fields in ((b"PK\x03\x04", (6, 8, 18, 22, 26)), (b"PK\x01\x02", (8, 10, 20, 24, 28, 42))):
        place = content.find(signature)
        if place >= 0 and random.random() < 0.7:
            at = place + random.choice(fields)
            changed[at : at + 2] = random.choice(
                (b"\xff\xff", b"\0\0", b"\1\0", b"\x63\0", random.randbytes(2))
            )
    return bytes(changed)


def _entities(random: Random, content: bytes) -> bytes:
    """Defines entities of entities in an XML file."""
    names = [chr(ord("a") + number) for number in range(10)]
    defined = "".join(f'<!ENTITY {own} "{f"&{before};" * 10}">' for before, own in pairwise(names))
    document = f'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{defined}]>'.encode()
    place = content.find(b"?>")
    text = content[: place + 2] + document + content[place + 2 :] if place >= 0 else document + content
    return text.replace(b"<v>", b"<v>&j;", 1).replace(b"<t>", b"<t>&j;", 1)


def _huge_numbers(random: Random, content: bytes) -> bytes:
    """Replaces references and numbers of a sheet by very large ones."""
    new = random.choice((b'r="XFD1048576"', b'r="ZZZZ99999999999"', b'r="A0"', b'r=""', b'r="-1"'))
    return content.replace(random.choice((b'r="A1"', b'r="B2"', b'r="A2"')), new)


def _files(content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except Exception:  # a damaged archive raises almost anything
        return {}


def _written(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name or "."), text, zipfile.ZIP_DEFLATED)
    return target.getvalue()


GZIP: tuple[Mutation, ...] = (inner_gzip, inner_gzip, inner_gzip, members, *raw.MUTATIONS)
ZIP: tuple[Mutation, ...] = (inner_zip, inner_zip, inner_zip, names, told_size, told_size, *raw.MUTATIONS)
# Slow: each writes and reads hundreds of megabytes.
BOMBS: tuple[Mutation, ...] = (bomb_gzip, bomb_zip)
