"""The functions of the package whose calls are the phases of the job.

The job runs through the command line as always. These functions are wrapped once their modules are imported, and
call what they wrap.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from .recorder import Recorder

READ, TOKENS, LOAD, ATTACH = "reading", "tokenising", "loading the base", "attaching adapter and head"
TRUNK, TRACE, TRACE_STEP = "frozen blocks", "tracing", "until the first step ends"
STEPS, SCORES, STATE = "training steps", "scoring", "saving checkpoints"
WRITE, VERIFY, EXIT = "writing the bundle", "verifying", "ending the process"

# (module, function or method in it, phase). A module that took over a function's name is the one to change.
PHASES = (
    ("keras_peft.training.job", "read", READ),
    ("keras_peft.inputs.encoder", "Encoder.__call__", TOKENS),
    ("keras_peft.sources", "load", LOAD),
    ("keras_peft.attach", "adapt", ATTACH),
    ("keras_peft.training.trunk_cache", "compute_features", TRUNK),
    ("keras_peft.runtime.inference", "Inference._traced", TRACE),
    ("keras_peft.training.rounds", "fit", TRACE_STEP),
    ("keras_peft.training.validation", "HeldOut.outputs", SCORES),
    ("keras_peft.training.job", "content_of", SCORES),
    ("keras_peft.training.checkpoint", "Checkpoint.write", STATE),
    ("keras_peft.bundle", "write", WRITE),
    ("keras_peft.bundle.verifying", "verify", VERIFY),
)


class Patches:
    """Wraps functions as soon as their modules are imported.

    Attributes:
        pending: (module, name of the function, wrapper) of those whose modules are not imported yet.
    """

    def __init__(self) -> None:
        self.pending: list[tuple[str, str, Callable[[Any], Any]]] = []

    def add(self, module: str, name: str, wrap: Callable[[Any], Any]) -> None:
        """Replaces a function by what `wrap` returns for it."""
        self.pending.append((module, name, wrap))

    def apply(self) -> None:
        """Wraps the functions of the modules that are imported now.

        Raises:
            AttributeError: If a module has no such function any more.
        """
        for entry in list(self.pending):
            module, name, wrap = entry
            found = sys.modules.get(module)
            if found is None or getattr(found.__spec__, "_initializing", False):
                continue
            self.pending.remove(entry)
            *owners, last = name.split(".")
            owner: Any = found
            for part in owners:
                owner = getattr(owner, part)
            setattr(owner, last, wrap(getattr(owner, last)))


def measured(recorder: Recorder, phase: str) -> Callable[[Any], Any]:
    """Returns a wrapper that makes each call of a function in the measured thread a phase."""

    def wrap(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not recorder.is_here:
                return function(*args, **kwargs)
            with recorder.phase(phase):
                return function(*args, **kwargs)

        return call

    return wrap


def after(react: Callable[..., None]) -> Callable[[Any], Any]:
    """Returns a wrapper that calls `react` with a method's object after each call."""

    def wrap(function: Any) -> Any:
        @functools.wraps(function)
        def call(own: Any, *args: Any, **kwargs: Any) -> Any:
            made = function(own, *args, **kwargs)
            react(own)
            return made

        return call

    return wrap
