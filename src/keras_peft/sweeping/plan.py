"""Decides what a sweep varies and what is the same in all its trials."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import methods
from keras_peft.core.method import Method
from keras_peft.errors import OptionError, did_you_mean, listed
from keras_peft.progress import Progress
from keras_peft.sweeping.space import Space, names_of_options, names_of_settings
from keras_peft.sweeping.space_file import read_space
from keras_peft.training.fine_tune import DEFAULT_METHOD
from keras_peft.training.settings import Settings

if TYPE_CHECKING:
    from keras_peft.tasks import Task

TRIALS = 40
"""Number of trials by default."""
WITHOUT = ("abstain_below",)
"""Settings without effect here: no threshold is chosen."""


def plan(
    space: str | Path | Mapping[str, Any] | None,
    method: Method | str | None,
    settings: Mapping[str, Any],
    fixed: Collection[str],
    progress: Progress,
) -> tuple[Settings, Method, Space]:
    """Decides what is varied: all that the space contains and that is not given.

    Args:
        space: The space; see `sweep`.
        method: The method; see `sweep`.
        settings: The settings that are given.
        fixed: Names of other settings and options that are not varied.
        progress: Is told what is not varied, although the space contains it.

    Returns:
        The fixed settings, the method with its fixed options, and what is varied.

    Raises:
        OptionError: If an argument is invalid, or nothing is left to vary.
    """
    chosen = Settings.of(dict(settings), without=WITHOUT)
    given = methods.as_methods(DEFAULT_METHOD if method is None else method)
    if len(given) > 1:
        raise OptionError(f"`method`: a sweep trains one method at a time, got {len(given)}.")
    (base,) = given
    whole = read_space(base.name if space is None else space, base.name)
    if whole.methods and method is not None and base.name not in whole.methods:
        raise OptionError(
            f"`method={base.name!r}`: the space varies the method, among {listed(whole.methods)}; add it there, or "
            "omit it here."
        )
    _check(fixed, base)
    changed = (one.name for one in fields(base) if getattr(base, one.name) != one.default)
    return chosen, base, _without(whole, {*fixed, *settings, *changed}, base, progress)


def suited(space: Space, task: type[Task], progress: Progress) -> Space:
    """Returns a space without what has no meaning for a task: a head that labels words reads all vectors.

    Args:
        space: What is varied.
        task: The task of the data.
        progress: Is told what is left out.

    Raises:
        OptionError: If nothing is left to vary.
    """
    if not task.per_word or all(one.name != "pooling" for one in space.parameters):
        return space
    progress.note(f"`pooling` has no meaning for {task.name}, and is not varied")
    varied = replace(space, parameters=tuple(one for one in space.parameters if one.name != "pooling"))
    _check_varies(varied, f"what has no meaning for {task.name}")
    return varied


def _check_varies(space: Space, otherwise: str) -> None:
    """Checks that a space varies anything."""
    if not space.parameters and len(space.methods) < 2:
        raise OptionError(f"{space.source} varies only {otherwise}; give another `space`.")


def _check(fixed: Collection[str], base: Method) -> None:
    """Checks that all names are settings or options of the method."""
    known = [*names_of_options(base.name), *names_of_settings()]
    if unknown := [name for name in fixed if name not in known]:
        hints = "".join(did_you_mean(name, known) for name in unknown)
        raise OptionError(
            f"`fixed`: {listed(unknown)}: not a setting and not an option of {base.name}.{hints}"
        )


def _without(space: Space, fixed: Collection[str], base: Method, progress: Progress) -> Space:
    """Returns a space without what is fixed; an option of the method is still varied for other methods."""
    options = names_of_options(base.name)
    dropped = [
        one
        for one in space.parameters
        if one.name in fixed and (one.name not in options or one.method in (None, base.name))
    ]
    if names := sorted({one.name for one in dropped}):
        named = " and ".join(f"`{name}`" for name in names)
        progress.note(f"{named} {'is' if len(names) == 1 else 'are'} fixed, and not varied")
    varied = replace(space, parameters=tuple(one for one in space.parameters if one not in dropped))
    _check_varies(varied, f"what is fixed, {listed(sorted(fixed))}")
    return varied
