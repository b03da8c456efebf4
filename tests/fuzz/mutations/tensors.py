"""Mutations of safetensors files: the header, the offsets, and well-formed files with other tensors."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np

from fuzz.mutations import Mutation, raw, structure

_DTYPES = (
    "F64",
    "F32",
    "F16",
    "BF16",
    "F8_E4M3",
    "F8_E5M2",
    "I64",
    "I32",
    "I16",
    "I8",
    "U8",
    "U64",
    "BOOL",
    "C64",
    "F4",
)
_SIZES = (0, 1, -1, 3, 2**31, 2**40, 2**63 - 1, 2**64, 1.5, "2", None, True)
_ARRAYS = ("float64", "float16", "int64", "int32", "int8", "uint8", "bool", "complex64", "uint64")


def _split(content: bytes) -> tuple[dict[str, Any], bytes] | None:
    """The header and the data, or None if the file is damaged."""
    try:
        (length,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + length])
        return (header, content[8 + length :]) if isinstance(header, dict) and header else None
    except (ValueError, struct.error, RecursionError):
        return None


def _joined(header: Any, data: bytes) -> bytes:
    text = structure.encode(header)
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def length(random: Random, content: bytes) -> bytes:
    """Gives the header another length."""
    sizes = (0, 1, 7, len(content), len(content) * 2, 2**31, 2**40, 2**63, 2**64 - 1, random.randrange(1000))
    return struct.pack("<Q", random.choice(sizes)) + content[8:]


def header(random: Random, content: bytes) -> bytes:
    """Changes a value of the header as JSON."""
    found = _split(content)
    return raw.flip(random, content) if found is None else _joined(structure.edit(random, found[0]), found[1])


def entry(random: Random, content: bytes) -> bytes:
    """Gives a tensor another dtype, shape or place; the data stays."""
    found = _split(content)
    if found is None:
        return raw.flip(random, content)
    entries, data = found
    name = random.choice([key for key in entries if key != "__metadata__"] or list(entries))
    own = entries[name]
    shape, offsets = (own.get(key) if isinstance(own, dict) else None for key in ("shape", "data_offsets"))
    # A mutation before this one may have changed them.
    if not (isinstance(shape, list) and shape and isinstance(offsets, list) and len(offsets) == 2):
        return raw.flip(random, content)
    others = [one.get("data_offsets") for one in entries.values() if isinstance(one, dict)]
    random.choice(
        (
            lambda: own.update(dtype=random.choice(_DTYPES)),
            lambda: shape.__setitem__(random.randrange(len(shape)), random.choice(_SIZES)),
            lambda: shape.reverse(),
            lambda: shape.append(random.choice(_SIZES)),
            lambda: own.update(shape=[1] * random.choice((1, 33, 1000)) + shape),
            lambda: own.update(shape=[]),
            lambda: offsets.__setitem__(random.randrange(2), random.choice(_SIZES)),
            lambda: offsets.reverse(),
            lambda: own.update(data_offsets=[0, len(data)]),
            lambda: own.update(data_offsets=random.choice(others)),
            lambda: entries.update({f"{name}x": entries.pop(name)}),
            lambda: entries.update({f"{name}/extra": dict(own)}),
            lambda: entries.pop(name),
            lambda: entries.update(__metadata__={"format": "pt", "a": random.choice(("", "x" * 100_000, 3))}),
        )
    )()
    return _joined(entries, data)


def whole(random: Random, content: bytes) -> bytes:
    """Writes a valid file with a changed tensor: other values, another dtype or shape, or another name."""
    from safetensors.numpy import load, save

    try:
        arrays = dict(load(content))
    except Exception:  # the library's exceptions have no common class
        return raw.flip(random, content)
    if not arrays:
        return raw.flip(random, content)
    name = random.choice(sorted(arrays))
    change = random.choice(_CHANGES)
    with np.errstate(all="ignore"):
        change(random, arrays, name)
    return save({key: np.ascontiguousarray(value) for key, value in arrays.items()})


def _value(random: Random, arrays: dict[str, np.ndarray], name: str) -> None:
    own = arrays[name] = arrays[name].copy()
    worst = random.choice((np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, 0.0))
    if own.size and own.dtype.kind == "f":
        own.flat[random.randrange(own.size) if random.random() < 0.5 else slice(None)] = worst


def _scaled(random: Random, arrays: dict[str, np.ndarray], name: str) -> None:
    arrays[name] = (arrays[name] * random.choice((-1, 0, 1e10, 1e30, 1e-30))).astype(arrays[name].dtype)


def _typed(random: Random, arrays: dict[str, np.ndarray], name: str) -> None:
    arrays[name] = arrays[name].astype(random.choice(_ARRAYS))


def _shaped(random: Random, arrays: dict[str, np.ndarray], name: str) -> None:
    own = arrays[name]
    arrays[name] = random.choice(
        (
            own.T,
            own.ravel(),
            own[None],
            own[..., None],
            own[:0],
            own[:1],
            np.zeros((), own.dtype),
            np.zeros(0, own.dtype),
        )
        if own.ndim
        else (own[None],)
    )


def _enlarged(random: Random, arrays: dict[str, np.ndarray], name: str) -> None:
    own = arrays[name]
    if own.ndim:
        arrays[name] = np.concatenate([own] * random.choice((2, 3)), axis=random.randrange(own.ndim))


def _renamed(random: Random, arrays: dict[str, np.ndarray], name: str) -> None:
    new = (
        name.upper(),
        f"{name}/x",
        "",
        "../x",
        "head/x",
        name[1:],
        name.rpartition("/")[2],
        "\x1b[2J",
        "é" * 50,
    )
    arrays[random.choice(new)] = arrays.pop(name)


def _dropped(random: Random, arrays: dict[str, np.ndarray], name: str) -> None:
    del arrays[name]


def _many(random: Random, arrays: dict[str, np.ndarray], name: str) -> None:
    arrays.update({f"{name}{number}": np.zeros(1, np.float32) for number in range(2000)})


def _exchanged(random: Random, arrays: dict[str, np.ndarray], name: str) -> None:
    other = random.choice(sorted(arrays))
    arrays[name], arrays[other] = arrays[other], arrays[name]


_Change = Callable[[Random, dict[str, np.ndarray], str], None]
_CHANGES: tuple[_Change, ...] = (
    *(_value, _value, _scaled, _typed, _shaped, _shaped, _enlarged, _renamed, _dropped, _many, _exchanged),
)

MUTATIONS: tuple[Mutation, ...] = (length, header, entry, entry, whole, whole, whole)
