"""Values that may be more than fit in memory: a tuple while they are few, else one after the other on the disk.

Of what lies on the disk memory holds a place of 8 bytes for each value. The file has no name, so that
it is gone when nobody needs it any more, and whichever way the process ends.
"""

from __future__ import annotations

import json
import tempfile
import threading
import weakref
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from keras_peft.errors import OptionError
from keras_peft.files import cache_folder

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")

# Bytes of what is no more than this, with what Python needs around each value, stay in memory.
IN_MEMORY = 32 << 20
_AROUND = 100
# Labels are read often, and most of them are the same few.
_LABELS = 1024
_encode = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Form(Generic[T]):
    """How values are written down.

    Attributes:
        pack: A value to bytes; equal values give equal bytes.
        unpack: Those to an equal value.
    """

    pack: Callable[[T], bytes]
    unpack: Callable[[bytes], T]


def pack(value: Any) -> bytes:
    """Writes a text or a label down: a string, a number, or a tuple of such."""
    return _encode(value).encode("utf-8", "surrogatepass")


def _unpack(record: bytes) -> Any:
    value = json.loads(record.decode("utf-8", "surrogatepass"))
    return tuple(value) if isinstance(value, list) else value


TEXTS: Form[Any] = Form(pack, _unpack)
LABELS: Form[Any] = Form(pack, lru_cache(_LABELS)(_unpack))


def arrays(dtype: Any) -> Form[np.ndarray]:
    """Returns the form of arrays (length,) of a type."""
    import numpy as np

    return Form(lambda value: np.asarray(value, dtype).tobytes(), lambda record: np.frombuffer(record, dtype))


class Collector(Generic[T]):
    """Takes values one by one and gives them back as a sequence.

    Args:
        form: How they are written down where they are many.

    Example:
        >>> texts = Collector(TEXTS)
        >>> texts.add("It is fast.")
        >>> texts.done()
        ('It is fast.',)
    """

    def __init__(self, form: Form[T]) -> None:
        self._form = form
        self._values: list[T] = []
        self._ends = array("q", [0])
        self._file: _File | None = None

    def add(self, value: T) -> None:
        """Takes a value.

        Raises:
            OptionError: If it has to go to the disk, which is full or cannot be written.
        """
        record = self._form.pack(value)
        self._ends.append(self._ends[-1] + len(record))
        if self._file is not None:
            self._file.write(record)
            return
        self._values.append(value)
        if self._ends[-1] + _AROUND * len(self._values) > IN_MEMORY:
            self._file = _File()
            for one in self._values:
                self._file.write(self._form.pack(one))
            self._values.clear()

    def done(self) -> Sequence[T]:
        """Returns all values: a tuple, or `OnDisk` where they are many. No more may come then.

        Raises:
            OptionError: If the disk is full.
        """
        if self._file is None:
            return tuple(self._values)
        self._file.flush()
        return OnDisk(self._file, self._ends, self._form, range(len(self._ends) - 1))


class OnDisk(Sequence[T]):
    """Values that lie on the disk, or some of them; made by `Collector` and `pick`.

    What is read of it is made anew each time. A slice is another view on the same file.
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

    def pick(self, rows: Sequence[int] | np.ndarray) -> OnDisk[T]:
        """Returns a view on the values at some positions."""
        import numpy as np

        return OnDisk(self._file, self._ends, self._form, np.asarray(self._rows)[np.asarray(rows, np.int64)])


def pick(values: Sequence[T], rows: Sequence[int] | np.ndarray) -> Sequence[T]:
    """Returns the values at some positions: a tuple, or a view where they lie on the disk."""
    return values.pick(rows) if isinstance(values, OnDisk) else tuple(values[row] for row in rows)


class _File:
    """A file without a name, which several threads may read."""

    def __init__(self) -> None:
        # The system's temporary folder often lies in memory.
        folder = cache_folder()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (it lives as long as this does)
        except OSError as error:
            raise _cannot_be_written(error) from None
        self._lock = threading.Lock()
        weakref.finalize(self, self._file.close)

    def write(self, record: bytes) -> None:
        """Puts bytes at the end, as long as nothing has been read."""
        try:
            self._file.write(record)
        except OSError as error:
            raise self._full(error) from None

    def flush(self) -> None:
        """Sees to it that all of it is there."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._full(error) from None

    def read(self, start: int, end: int) -> bytes:
        """Returns the bytes from one place to before another."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(end - start)

    def _full(self, error: OSError) -> OptionError:
        with suppress(OSError):  # What could not be written cannot be now.
            self._file.close()
        return _cannot_be_written(error)


def _cannot_be_written(error: OSError) -> OptionError:
    return OptionError(
        f"{cache_folder()} cannot be written ({error.strerror or error}); what is too much for memory lies there for "
        "as long as it is used. Make room, or name another folder with KERAS_PEFT_CACHE."
    )
