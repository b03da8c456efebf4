"""Where a training is written down while it goes on. One file each, found by its name."""

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
    """A training.

    Attributes:
        name: Its name, that of the bundle.
        folder: Where logs go that are files.
        settings: What it is made with.
        resumed: Whether it goes on with an earlier one.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any]
    resumed: bool


def names() -> list[str]:
    """Lists the names of all trackers, sorted."""
    return list(_SHELF.names)


def defaults() -> list[str]:
    """Lists the trackers that are meant where none are named; Keras is imported by then."""
    import keras

    return [DEFAULT] if keras.config.backend() == "tensorflow" else []


def check(chosen: Sequence[str]) -> None:
    """Checks that trackers are there and can be imported.

    Raises:
        OptionError: If one cannot.
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
    """Begins to write a training down, and ends it.

    Args:
        chosen: Names of trackers.
        run: The training.

    Yields:
        The callbacks that write.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(_SHELF.module(name).tracked(run)) for name in chosen]
