"""Changes to the process that only the command line may make, never the library."""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

# Keras, TensorFlow and KerasHub import all of these if they are installed, for functions that no command calls: 863 MB
# instead of 565, and twice the time. The first ones are needed with a KerasHub preset or on another backend.
_OF_PRESETS = ("tensorflow_text", "kagglehub", "sentencepiece")
_OF_OTHER_BACKENDS = ("jax", "scipy")
_OF_KERAS = ("IPython", "PIL", "matplotlib", "pandas", "pyarrow", "pydot", "sklearn")


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
    """Makes the import of Keras quiet, quick and small.

    Output of native code to stderr is silenced, and shown if the import fails: TensorFlow's libraries write to stderr
    before their log level can be set. Packages that Keras imports and no command needs stay out; they can be imported
    later. The garbage collector waits: nothing that is imported is garbage, and it would search it again and again.

    Args:
        presets: Whether KerasHub must be able to read presets and their tokenizers.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    unneeded: tuple[str, ...] = _OF_KERAS if presets else (*_OF_KERAS, *_OF_PRESETS)
    if _backend() == "tensorflow":
        unneeded += _OF_OTHER_BACKENDS
    with tempfile.TemporaryFile() as said, _without(unneeded), _without_collections():
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


@contextmanager
def _without_collections() -> Iterator[None]:
    """Stops the garbage collector; what the first import of Keras leaves is never searched."""
    is_first, was_on = "keras" not in sys.modules, gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if is_first and "keras" in sys.modules:
            gc.freeze()
        if was_on:
            gc.enable()


def end(code: int) -> NoReturn:
    """Ends the process at once.

    Otherwise Python frees every object before it ends, which takes a second or two if TensorFlow is imported and helps
    nobody. What is registered for the end of the process runs as usual.

    Args:
        code: The exit code.
    """
    # What Python does at its end, up to freeing the objects.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


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
