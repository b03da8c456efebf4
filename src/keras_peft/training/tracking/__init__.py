"""Experiment trackers, one per file, found by name."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.errors import OptionError, did_you_mean
from keras_peft.shelf import Shelf

if TYPE_CHECKING:
    import keras

NONE = "none"
DEFAULT = "tensorboard"
_SHELF = Shelf(__name__, "tracker", "trackers")


@dataclass(frozen=True)
class TrackedRun:
    """A training run to track.

    Attributes:
        name: Name of the run, which is that of the bundle.
        folder: Folder for log files.
        settings: Settings of the run.
        resumed: Whether it continues an interrupted run.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    resumed: bool


def names() -> list[str]:
    """Returns the names of all trackers, sorted."""
    return list(_SHELF.names)


def defaults() -> list[str]:
    """Returns the default trackers of the Keras backend. Call it after Keras is imported."""
    import keras

    return [DEFAULT] if keras.config.backend() == "tensorflow" else []


def check(chosen: Sequence[str]) -> None:
    """Checks that trackers exist and that their packages are installed.

    Args:
        chosen: Names of trackers.

    Raises:
        OptionError: If a tracker is unknown or its package is missing.
    """
    for name in chosen:
        if name not in names():
            known = [*names(), NONE]
            raise OptionError(
                f"`track={name!r}`: expected one or more of {', '.join(known)}.{did_you_mean(name, known)}"
            )
        package = _SHELF.module(name).PACKAGE
        if importlib.util.find_spec(package) is None:
            raise OptionError(
                f"`track={name!r}` needs the package {package}, which is not installed: pip install {package}"
            )


@contextmanager
def tracked(chosen: Sequence[str], run: TrackedRun) -> Iterator[list[keras.callbacks.Callback]]:
    """Tracks a run for the duration of the context.

    Args:
        chosen: Names of trackers.
        run: The run.

    Yields:
        The callbacks of the trackers.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_SHELF.module(name).tracked(run)) for name in chosen]
