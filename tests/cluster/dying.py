"""Callbacks that run in other processes: one kills its process, another one tells of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import keras


class Dying(keras.callbacks.Callback):
    """Kills the second process at the end of the first epoch, once.

    Args:
        marker: File that says that it has.
    """

    def __init__(self, marker: Path) -> None:
        super().__init__()
        self._marker = marker

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if os.environ["KERAS_DISTRIBUTION_PROCESS_ID"] == "1" and not self._marker.exists():
            self._marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)


class Telling(keras.callbacks.Callback):
    """Writes which GPUs its process may use.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        self._file.write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "all"))
