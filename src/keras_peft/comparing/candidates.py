"""The candidates of a comparison: the methods and the yardsticks, and how many blocks of the base they train.

A candidate is identified by its name: that of a method or yardstick, such as "lora", or that of a method with those
options that are not its defaults, such as "lora(rank=4)". The names of result files contain it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from keras_peft import methods
from keras_peft.comparing import yardsticks
from keras_peft.comparing.results import Candidate
from keras_peft.core.method import Method
from keras_peft.errors import OptionError, did_you_mean

if TYPE_CHECKING:
    from keras_peft.tasks import Task

Asked = str | Method | type[Method]
"""A candidate as a caller names it: by its name, or a method with its options."""
ALL = "all"
# A comma that is not within brackets: it ends a name in a list, and the main part of a title with variants, such as
# "LoRA, rsLoRA".
_COMMA = re.compile(r",(?![^(]*\))")
_WITH_OPTIONS = re.compile(r"([\w-]+)\s*\((.*)\)", re.DOTALL)
_MOST_LETTERS = 500
# Blocks of a base whose number is not known yet.
_BLOCKS = 12


def chosen(asked: Asked | Sequence[Asked], task: type[Task]) -> list[Candidate]:
    """Returns the candidates that are asked for.

    Args:
        asked: Names of methods and yardsticks, as a list or separated by commas; in a list, also methods such as
            `LoRA(rank=4)`. Or `"all"`, for all that suit the task.
        task: The task of the data.

    Raises:
        OptionError: If a name is unknown, is given twice or does not suit the task, or there is none.
    """
    given = [asked] if isinstance(asked, Method | type) else asked
    each = [one.strip() for one in _COMMA.split(given)] if isinstance(given, str) else list(given)
    known = [*methods.names(), *yardsticks.names()]
    if each == [ALL]:
        each = [name for name in known if _suits(name, task)]
    if wrong := [one for one in each if not _is_known(one, known)]:
        hints = "".join(did_you_mean(str(one).partition("(")[0], known) for one in wrong)
        raise OptionError(
            f"`methods`: {', '.join(map(repr, wrong))} is unknown; expected {ALL}, or some of "
            f"{', '.join(known)}.{hints}"
        )
    names = [_name(one) for one in each]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise OptionError(f"`methods`: {', '.join(twice)} is given twice; give each once.")
    if unfit := [name for name in names if not _suits(name, task)]:
        raise OptionError(
            f"`methods`: {', '.join(unfit)} has no meaning for the task {task.name}; leave it out."
        )
    if not names:
        raise OptionError("`methods`: expected at least one method, got none.")
    return [_candidate(name) for name in names]


def method_of(name: str) -> Method:
    """Returns the method of a candidate.

    Args:
        name: Name of the candidate, such as `"lora"` or `"lora(rank=4)"`.

    Raises:
        OptionError: If it has no such options, or they cannot be read.
    """
    if (match := _WITH_OPTIONS.fullmatch(name)) is None:
        return methods.find(name)()
    return methods.find(match[1]).from_options(_options(name, match[2]))


def name_of(method: Method) -> str:
    """Returns the name of the candidate that a method is.

    Args:
        method: The method.

    Example:
        >>> name_of(LoRA(rank=4))
        'lora(rank=4)'
    """
    own = [f"{key}={value!r}" for key, value in _not_default(method).items()]
    return f"{method.name}({', '.join(own)})" if own else method.name


def _not_default(method: Method) -> dict[str, Any]:
    """Returns the options of a method that are not its defaults."""
    values = {field.name: (getattr(method, field.name), field.default) for field in fields(method)}
    return {key: value for key, (value, default) in values.items() if value != default}


def _is_known(one: object, known: Sequence[str]) -> bool:
    """Returns whether something given is a candidate, apart from its options."""
    if isinstance(one, str):
        match = _WITH_OPTIONS.fullmatch(one)
        return one in known or (match is not None and match[1] in methods.names())
    return isinstance(one, Method) or (isinstance(one, type) and issubclass(one, Method))


def _name(one: Asked) -> str:
    """Returns the name of a candidate that is known; the same options in another form give the same name."""
    if isinstance(one, str):
        return one if one in yardsticks.names() else name_of(method_of(one))
    return name_of(one() if isinstance(one, type) else one)


def _options(name: str, text: str) -> dict[str, Any]:
    """Reads options such as "rank=4, alpha=8"."""
    try:
        if len(text) > _MOST_LETTERS:
            raise ValueError
        call = ast.parse(f"options({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(one.arg is None for one in call.keywords):
            raise ValueError
        return {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise OptionError(
            f"`methods`: the options of {name[:_MOST_LETTERS]!r} cannot be read; expected a form such as lora(rank=4)."
        ) from None


def _suits(name: str, task: type[Task]) -> bool:
    return name not in yardsticks.names() or yardsticks.find(name).suits(task)


def _candidate(name: str) -> Candidate:
    if name in yardsticks.names():
        return Candidate(name=name, kind="yardstick", title=yardsticks.find(name).title)
    method = method_of(name)
    title = _COMMA.split(method.title.removesuffix(" (baseline)"))[0]
    if own := _not_default(method):
        title += f" with {', '.join(f'{key}={value}' for key, value in own.items())}"
    return Candidate(name=name, kind="yardstick" if method.is_baseline else "method", title=title)


def is_trained(name: str) -> bool:
    """Returns whether a candidate is a method, which `fine_tune` can train.

    Args:
        name: Name of the candidate.
    """
    return name.partition("(")[0] in methods.names()


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
    method = method_of(name)
    if not method.default_targets:
        return 0.0
    every = blocks or _BLOCKS
    layers = task.default_layers or method.default_layers
    last = layers.removeprefix("last:")
    own = min(int(last), every) if last != layers and last.isdigit() else every
    # The work of a short text doubles with about as many positions as it has tokens.
    return own * (1 + method.extra_positions / 20)
