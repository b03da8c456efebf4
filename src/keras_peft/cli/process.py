"""Changes to the process that only the command line may make, never the library."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

# TensorFlow and KerasHub import these if they are installed: 863 MB instead of 643. They are
# only needed with a KerasHub preset or on that backend.
_OF_PRESETS = ("tensorflow_text",)
_OF_OTHER_BACKENDS = ("jax",)


class Interrupted(BaseException):
    """Raised on SIGINT and SIGTERM, so that partially written files are removed.

    Args:
        number: Number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number).name


class LenientStream:
    """A text stream that drops what cannot be written, for example because the disk is full.

    Args:
        stream: The stream to replace; it has a file descriptor.
    """

    def __init__(self, stream: TextIO) -> None:
        stream.flush()
        self._stream, self._descriptor = stream, stream.fileno()
        self._is_cut = False

    def write(self, text: str) -> int:
        """Writes text without a buffer, which would keep the text that failed.

        Args:
            text: The text.

        Returns:
            The number of characters.
        """
        left = text.encode(self._stream.encoding or "utf-8", "backslashreplace")
        if self._is_cut and left:
            left = b"\n" + left
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
            self._is_cut = False
        except OSError:
            self._is_cut = True
        return len(text)

    def flush(self) -> None:
        """Does nothing, since nothing is buffered."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def lenient_output() -> Iterator[None]:
    """Keeps a process alive that cannot write to stdout or stderr, within the context."""
    before = sys.stdout, sys.stderr
    try:
        sys.stdout, sys.stderr = (_lenient(stream) for stream in before)
        yield
    finally:
        sys.stdout, sys.stderr = before


def _lenient(stream: TextIO) -> Any:
    try:
        return LenientStream(stream)
    except (OSError, ValueError):  # It has no file descriptor, or is closed.
        return stream


@contextmanager
def quiet_import(*, presets: bool = True) -> Iterator[None]:
    """Silences output of native code to stderr during an import; shows it if the import fails.

    TensorFlow's libraries write to stderr before their log level can be set.

    Args:
        presets: Whether KerasHub must be able to read presets and their tokenizers.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    unneeded: tuple[str, ...] = () if presets else _OF_PRESETS
    if _backend() == "tensorflow":
        unneeded += _OF_OTHER_BACKENDS
    with tempfile.TemporaryFile() as said, _without(unneeded):
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(kept, 2)
            said.seek(0)
            os.write(2, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextmanager
def _without(packages: tuple[str, ...]) -> Iterator[None]:
    """Makes imports of packages fail as if they were not installed."""
    absent = [package for package in packages if package not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for package in absent:
            del sys.modules[package]


def _backend() -> str:
    """Returns the backend that Keras will use, before it is imported."""
    if chosen := os.environ.get("KERAS_BACKEND"):
        return chosen
    # For users without a home folder, such as service accounts.
    home = Path(os.environ.get("KERAS_HOME") or Path("~/.keras").expanduser())
    try:
        return str(json.loads((home / "keras.json").read_text()).get("backend", "tensorflow"))
    except (OSError, ValueError, AttributeError):
        return "tensorflow"
