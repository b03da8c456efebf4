"""The candidates of a comparison: the methods and the yardsticks, and how many blocks of the base they train."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_peft import methods
from keras_peft.comparing import yardsticks
from keras_peft.comparing.results import Candidate
from keras_peft.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    from keras_peft.tasks import Task

ALL = "all"
# Where the title of a method with variants, such as "LoRA, rsLoRA", is cut; not within brackets.
_FURTHER = re.compile(r",(?![^(]*\))")
# Blocks of a base whose number is not known yet.
_BLOCKS = 12


def chosen(asked: str | Sequence[str], task: type[Task]) -> list[Candidate]:
    """Returns the candidates that are asked for.

    Args:
        asked: Names of methods and yardsticks, as a list or separated by commas; or `"all"`, for all that suit the
            task.
        task: The task of the data.

    Raises:
        OptionError: If a name is unknown, is given twice or does not suit the task, or there is none.
    """
    names = [one.strip() for one in asked.split(",")] if isinstance(asked, str) else list(asked)
    known = [*methods.names(), *yardsticks.names()]
    if names == [ALL]:
        names = [name for name in known if _suits(name, task)]
    if wrong := [name for name in names if name not in known]:
        hints = "".join(did_you_mean(str(name), known) for name in wrong)
        raise OptionError(
            f"`methods`: {', '.join(map(repr, wrong))} is unknown; expected {ALL}, or some of "
            f"{', '.join(known)}.{hints}"
        )
    if len(set(names)) < len(names):
        raise OptionError(f"`methods`: a name is given twice in {', '.join(names)}; give each once.")
    if unfit := [name for name in names if not _suits(name, task)]:
        raise OptionError(
            f"`methods`: {', '.join(unfit)} has no meaning for the task {task.name}; leave it out."
        )
    if not names:
        raise OptionError("`methods`: expected at least one method, got none.")
    return [_candidate(name) for name in names]


def _suits(name: str, task: type[Task]) -> bool:
    return name not in yardsticks.names() or yardsticks.find(name).suits(task)


def _candidate(name: str) -> Candidate:
    if name in yardsticks.names():
        return Candidate(name=name, kind="yardstick", title=yardsticks.find(name).title)
    method = methods.find(name)
    title = _FURTHER.split(method.title.removesuffix(" (baseline)"))[0]
    return Candidate(name=name, kind="yardstick" if method.is_baseline else "method", title=title)


def is_trained(name: str) -> bool:
    """Returns whether a candidate is a method, which `fine_tune` can train.

    Args:
        name: Name of the candidate.
    """
    return name in methods.names()


def work(name: str, task: type[Task], blocks: int | None) -> float:
    """Estimates the work of a step of training, relative to that of other candidates.

    The work grows with the number of blocks that gradients flow through: for "last:2" these are two, and all of them
    if the first block is adapted.

    Args:
        name: Name of the candidate.
        task: The task of the data.
        blocks: Number of the base's blocks, None if not known yet.

    Returns:
        The number of blocks, 0 if only a head is trained. Methods that add positions count more.
    """
    if not is_trained(name):
        return 0.0
    method = methods.find(name)
    if not method.default_targets:
        return 0.0
    every = blocks or _BLOCKS
    layers = task.default_layers or method.default_layers
    last = layers.removeprefix("last:")
    own = min(int(last), every) if last != layers and last.isdigit() else every
    # The work of a short text doubles with about as many positions as it has tokens.
    return own * (1 + method().extra_positions / 20)
