"""Sequences that may exceed memory: a tuple while small, else a file on disk.

For values on disk, memory holds only an 8-byte offset each. The file has no name, so it is removed when
it is no longer used, however the process ends.
"""

from __future__ import annotations

import json
import tempfile
import threading
import weakref
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from keras_peft.errors import OptionError
from keras_peft.files import writing_to_cache
from keras_peft.storage_limits import text_limit

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

# Python's overhead per value, in bytes.
_AROUND = 100
# Labels are read often, and most are among the same few.
_LABELS = 1024
# Values that are read from the file at once.
_READ_TOGETHER = 256
_BLOCK = 1 << 20
_WHAT = "data that does not fit in memory"
_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Form(Generic[T]):
    """A serialization format for values.

    Attributes:
        pack: Converts a value to bytes; equal values give equal bytes.
        unpack: Converts the bytes back to an equal value.
    """

    pack: Callable[[T], bytes]
    unpack: Callable[[bytes], T]


def pack(value: Any) -> bytes:
    """Serializes a text or a label: a string, a number, or a tuple of them."""
    return _encode(value).encode("utf-8", "surrogatepass")


def _unpack(record: bytes) -> Any:
    value = json.loads(record.decode("utf-8", "surrogatepass"))
    return tuple(value) if isinstance(value, list) else value


TEXTS: Form[Any] = Form(pack, _unpack)
LABELS: Form[Any] = Form(pack, lru_cache(_LABELS)(_unpack))


def arrays(dtype: Any) -> Form[np.ndarray]:
    """Returns the serialization of one-dimensional arrays of a dtype."""
    import numpy as np

    return Form(lambda value: np.asarray(value, dtype).tobytes(), lambda record: np.frombuffer(record, dtype))


class Collector(Generic[T]):
    """Collects values one at a time and returns them as a sequence.

    Args:
        form: How values are serialized when they are moved to disk.
        most_bytes: Maximum estimated bytes kept in memory, including Python's overhead per value;
            `text_limit()` by default.

    Example:
        >>> texts = Collector(TEXTS)
        >>> texts.add("It is fast.")
        >>> texts.done()
        ('It is fast.',)
    """

    def __init__(self, form: Form[T], *, most_bytes: int | None = None) -> None:
        self._form = form
        self._most_bytes = text_limit() if most_bytes is None else most_bytes
        self._values: list[T] = []
        self._ends = array("q", [0])
        self._file: _File | None = None

    def add(self, value: T) -> None:
        """Adds a value.

        Raises:
            OptionError: If the value has to be written to disk and the disk is full or not writable.
        """
        record = self._form.pack(value)
        self._ends.append(self._ends[-1] + len(record))
        if self._file is not None:
            self._file.write(record)
            return
        self._values.append(value)
        if self._ends[-1] + _AROUND * len(self._values) > self._most_bytes:
            self._file = _File()
            for one in self._values:
                self._file.write(self._form.pack(one))
            self._values.clear()

    def done(self) -> Sequence[T]:
        """Returns all values: a tuple, or `OnDisk` if they exceed memory. No values may be added afterwards.

        Raises:
            OptionError: If the disk is full.
        """
        if self._file is None:
            return tuple(self._values)
        self._file.flush()
        return OnDisk(self._file, self._ends, self._form, range(len(self._ends) - 1))


class OnDisk(Sequence[T]):
    """Values stored on disk, or a subset of them. Created by `Collector` and `pick`.

    Each access reads the value from disk again. A slice is another view of the same file.
    """

    def __init__(self, file: _File, ends: array[int], form: Form[T], rows: range | np.ndarray) -> None:
        self._file, self._ends, self._form, self._rows = file, ends, form, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> OnDisk[T]: ...
    def __getitem__(self, index: int | slice) -> T | OnDisk[T]:
        if isinstance(index, slice):
            return OnDisk(self._file, self._ends, self._form, self._rows[index])
        row = self._rows[index]
        return self._form.unpack(self._file.read(self._ends[row], self._ends[row + 1]))

    def __iter__(self) -> Iterator[T]:
        """Yields the values; those that follow one another in the file are read together."""
        if not isinstance(self._rows, range) or self._rows.step != 1:
            yield from (self[place] for place in range(len(self)))
            return
        for first in range(self._rows.start, self._rows.stop, _READ_TOGETHER):
            last = min(first + _READ_TOGETHER, self._rows.stop)
            start = self._ends[first]
            block = self._file.read(start, self._ends[last])
            for row in range(first, last):
                yield self._form.unpack(block[self._ends[row] - start : self._ends[row + 1] - start])

    def pick(self, rows: Sequence[int] | np.ndarray) -> OnDisk[T]:
        """Returns a view of the values at the given positions."""
        import numpy as np

        return OnDisk(self._file, self._ends, self._form, np.asarray(self._rows)[np.asarray(rows, np.int64)])


def pick(values: Sequence[T], rows: Sequence[int] | np.ndarray) -> Sequence[T]:
    """Returns the values at the given positions: a tuple, or a view if the values are on disk."""
    return values.pick(rows) if isinstance(values, OnDisk) else tuple(values[row] for row in rows)


class _File:
    """An unnamed temporary file that several threads may read."""

    def __init__(self) -> None:
        # The system's temporary folder is often in memory.
        with writing_to_cache(_WHAT) as folder:
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (closed by the finalizer)
        self._lock = threading.Lock()
        self._pending = bytearray()
        weakref.finalize(self, self._file.close)

    def write(self, record: bytes) -> None:
        """Appends bytes; not allowed after the first read."""
        self._pending += record
        if len(self._pending) >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        """Flushes all written bytes."""
        # Once for many records, since this looks for the cache's folder.
        with self._closed_if_full(), writing_to_cache(_WHAT):
            self._file.write(self._pending)
            self._file.flush()
        self._pending.clear()

    def read(self, start: int, end: int) -> bytes:
        """Returns the bytes from `start` up to `end`."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(end - start)

    @contextmanager
    def _closed_if_full(self) -> Iterator[None]:
        try:
            yield
        except OptionError:
            with suppress(OSError):  # Closing retries the failed write.
                self._file.close()
            raise
