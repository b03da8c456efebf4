"""Checks an ONNX file before a runtime opens it.

Only what the check needs is read of the file: the domains of its operators, and where its tensors are. Reading it
with the package `onnx` would need that package, and as much memory as the file and its tensors together.

The format is that of protocol buffers: https://protobuf.dev/programming-guides/encoding. The field numbers are those
of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from keras_peft.errors import BundleMismatch, listed

MOST_BYTES = 4 << 30
"""Larger files are refused; no supported base model reaches this size."""
_DOMAINS = {"", "ai.onnx", "com.microsoft"}
_MOST_NESTED = 32
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# The messages inside each message that can hold tensors, operators or their domains, by field number.
_INSIDE = {
    "model": {7: "graph", 8: "opset", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 9: "opset"},
}
# The fields with a domain, and those of a tensor that say that its data is in another file.
_DOMAIN = {"opset": 1, "node": 7, "function": 10}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def refuse_unsafe(path: Path) -> None:
    """Checks that an ONNX file holds all of its data and uses only known operators.

    Args:
        path: The file.

    Raises:
        BundleMismatch: If it is damaged or too large, refers to other files, defines functions, or uses operators of
            an unknown domain; the message lists all problems.

    Example:
        >>> refuse_unsafe(Path("exported/onnx/model.onnx"))
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise BundleMismatch(f"{path} has {size:,} bytes; at most {MOST_BYTES:,} are read.")
    problems: set[str] = set()
    domains: set[str] = set()
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            _look("model", content, 0, size, problems, domains)
    except (ValueError, IndexError, UnicodeDecodeError):
        raise BundleMismatch(
            f"{path} is not an ONNX model; copy the folder again or export it again."
        ) from None
    if unknown := sorted(domains - _DOMAINS):
        problems.add(f"it uses operators of the domains {listed(unknown)}")
    if problems:
        raise BundleMismatch(f"{path} is not a model that keras-peft exported: {listed(sorted(problems))}.")


def _look(
    message: str,
    content: mmap.mmap,
    start: int,
    end: int,
    problems: set[str],
    domains: set[str],
    depth: int = 0,
) -> None:
    """Collects the problems and domains of a message and of those inside it."""
    if depth > _MOST_NESTED:
        raise ValueError("nested too deeply")
    inside, domain = _INSIDE.get(message, {}), _DOMAIN.get(message)
    if message == "function":
        problems.add("it defines functions")
    for field, kind, first, last in _fields(content, start, end):
        if message == "tensor":
            if field == _EXTERNAL_DATA or (field == _DATA_LOCATION and first != 0):
                problems.add("its weights are in other files")
        elif field == domain:
            domains.add(content[first:last].decode())
        elif field in inside:
            if kind != _BYTES:
                raise ValueError("not a message")
            _look(inside[field], content, first, last, problems, domains, depth + 1)


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields the number and type of each field, and the range of its bytes, or its value and 0 for an integer."""
    at = start
    while at < end:
        key, at = _integer(content, at, end)
        field, kind = key >> 3, key & 7
        if not field:
            raise ValueError("no field")
        if kind == _VARINT:
            value, at = _integer(content, at, end)
            yield field, kind, value, 0
            continue
        if kind == _BYTES:
            size, at = _integer(content, at, end)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("a group, or no field")
        if at + size > end:
            raise ValueError("cut off")
        yield field, kind, at, at + size
        at += size


def _integer(content: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Reads an integer of variable length, and returns it with the position after it."""
    value = shift = 0
    while True:
        if at >= end or shift > 63:
            raise ValueError("cut off")
        byte = content[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if not byte & 0x80:
            return value, at
