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
