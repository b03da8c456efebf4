"""Experiment trackers, one per file, found by name."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft.errors import OptionError, did_you_mean, reason_of
from keras_peft.progress import Progress
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
def tracked(
    chosen: Sequence[str], run: TrackedRun, progress: Progress
) -> Iterator[list[keras.callbacks.Callback]]:
    """Tracks a run for the duration of the context.

    A tracker that fails, for example because its server cannot be reached or the disk is full, is left out
    from then on, and training continues.

    Args:
        chosen: Names of trackers.
        run: The run.
        progress: Receives a note for each tracker that fails.

    Yields:
        The callbacks of the trackers.
    """
    with ExitStack() as stack:
        opened = [stack.enter_context(_tracked_by(name, run, progress)) for name in chosen]
        yield [callback for callback in opened if callback is not None]


@contextmanager
def _tracked_by(name: str, run: TrackedRun, progress: Progress) -> Iterator[keras.callbacks.Callback | None]:
    """Opens and closes one tracker; yields None if it cannot be opened."""
    tracker, callback = _Tracker(name, progress), None
    with tracker.may_fail():
        context = _SHELF.module(name).tracked(run)
        callback = context.__enter__()
    if callback is None:
        yield None
        return
    tracker.guard(callback)
    try:
        yield callback
    except BaseException as error:  # So that the tracker records that the run failed.
        with tracker.may_fail():
            context.__exit__(type(error), error, error.__traceback__)
        raise
    with tracker.may_fail():
        context.__exit__(None, None, None)


class _Tracker:
    """Reports the first failure of a tracker, and does not call its hooks afterwards.

    Args:
        name: Name of the tracker.
        progress: Receives the note.
    """

    def __init__(self, name: str, progress: Progress) -> None:
        self._name, self._progress = name, progress
        self._failed = False

    @contextmanager
    def may_fail(self) -> Iterator[None]:
        """Reports an exception and continues after the context."""
        try:
            yield
        except Exception as error:  # The trackers' exceptions have no common class.
            if not self._failed:
                self._progress.note(
                    f"{self._name} failed ({reason_of(error)}); training continues without tracking"
                )
            self._failed = True

    def guard(self, callback: keras.callbacks.Callback) -> None:
        """Replaces the hooks of a callback with ones that may fail."""
        for name in dir(callback):
            if name.startswith("on_"):
                setattr(callback, name, self._guarded(getattr(callback, name)))

    def _guarded(self, hook: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(hook)
        def guarded(*args: Any, **kwargs: Any) -> None:
            if not self._failed:
                with self.may_fail():
                    hook(*args, **kwargs)

        return guarded
