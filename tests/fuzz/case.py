"""Runs one case: mutates a copy of an artifact, reads it, and classifies what happens.

A case is determined by the artifact, its number and the seed.
"""

from __future__ import annotations

import re
import shutil
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from types import TracebackType

from fuzz.artifact import Artifact, Content, Wrong

REFUSED, EQUAL, DIFFERENT, CRASHED, KILLED = "refused", "equal", "different", "crashed", "killed"
OUTCOMES = (REFUSED, EQUAL, DIFFERENT, CRASHED, KILLED)
FAILURES = (CRASHED, KILLED)
# An error message is one message: it quotes a stranger's text in part only.
MOST_CHARACTERS = 10_100
# The share of cases that leave wrong checksums.
_UNSEALED = 0.1
_SOURCE = Path(__file__).parents[2] / "src" / "keras_peft"


@dataclass(frozen=True)
class Outcome:
    """What a case did.

    Attributes:
        artifact: Name of the artifact.
        number: Number of the case.
        mutation: What was mutated.
        outcome: One of `OUTCOMES`.
        error: Class of the exception, or why the process was killed.
        place: The innermost place in the package that the exception passed through.
        message: The start of the message.
        seconds: Seconds of the processor for reading.
        mebibytes: Growth of the peak memory in MiB; 0 where it is not measured.
    """

    artifact: str
    number: int
    mutation: str
    outcome: str
    error: str = ""
    place: str = ""
    message: str = ""
    seconds: float = 0.0
    mebibytes: float = 0.0


@dataclass(frozen=True)
class Case:
    """A mutated example.

    Attributes:
        artifact: The artifact.
        number: Number of the case.
        example: The example without the mutation.
        path: The mutated copy.
        mutation: What was mutated.
        is_sealed: Whether the checksums are correct.
    """

    artifact: Artifact
    number: int
    example: Path
    path: Path
    mutation: str
    is_sealed: bool


def prepare(artifact: Artifact, number: int, seed: int, originals: Path, work: Path) -> Case:
    """Copies and mutates an example.

    Args:
        artifact: The artifact.
        number: Number of the case.
        seed: Seed of all cases.
        originals: Folder in which the artifact wrote its examples.
        work: Folder for the mutated copy, which is emptied.
    """
    random = Random(f"{seed}/{artifact.name}/{number}")
    example = random.choice(sorted(originals.iterdir()))
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    path = work / example.name
    if example.is_dir():
        shutil.copytree(example, path)
    else:
        shutil.copy2(example, path)
    mutation = artifact.mutate(random, path)
    if example.is_dir():
        mutation = f"{example.name}/{mutation}"
    is_sealed = artifact.is_sealed and random.random() >= _UNSEALED
    if is_sealed:
        try:
            artifact.seal(path)
        except Exception:  # The mutation left nothing that could be sealed.
            is_sealed = False
    if artifact.is_sealed and not is_sealed:
        mutation += ", unsealed"
    return Case(artifact, number, example, path, mutation, is_sealed)


def read(case: Case, *, traces: bool = False) -> Outcome:
    """Reads a mutated example, and classifies what happens.

    Args:
        case: The case.
        traces: Whether to print the traceback of an exception.
    """
    artifact = case.artifact
    began = time.process_time()
    try:
        content = artifact.read(case.path)
        took = time.process_time() - began
        is_equal = content.equals(original(artifact, case.example))
        if artifact.is_sealed and not case.is_sealed and not is_equal:
            raise Wrong("a modified file was accepted")
    except BaseException as error:  # a panic of a library in Rust is not an Exception
        if isinstance(error, KeyboardInterrupt):
            raise
        took = time.process_time() - began
        if traces:
            traceback.print_exc()
        return Outcome(artifact.name, case.number, case.mutation, *_classified(error), seconds=took)
    outcome = EQUAL if is_equal else DIFFERENT
    return Outcome(artifact.name, case.number, case.mutation, outcome, seconds=took)


@cache
def original(artifact: Artifact, example: Path) -> Content:
    """Returns the content of an example without mutation, which is read once."""
    return artifact.read(example)


def _classified(error: BaseException) -> tuple[str, str, str, str]:
    """The outcome, the class, the place and the message of an exception."""
    from keras_peft.errors import KerasPeftError

    message, place = str(error), _place(error.__traceback__)
    kind = type(error).__name__
    if isinstance(error, KerasPeftError):
        if len(message) <= MOST_CHARACTERS:
            return REFUSED, kind, place, message[:300]
        return CRASHED, f"{kind} of {len(message):,} characters", place, message[:300]
    if isinstance(error, Wrong):
        return CRASHED, f"Wrong: {message[:100]}", place, message[:300]
    if isinstance(error, MemoryError):
        return KILLED, "memory", place, message[:300]
    return CRASHED, kind, place, message[:300]


def _place(trace: TracebackType | None) -> str:
    """The innermost place in the package, such as "bundle/reading.py:70 read"."""
    inside = ""
    for frame in traceback.extract_tb(trace):
        if frame.filename.startswith(str(_SOURCE)):
            inside = f"{Path(frame.filename).relative_to(_SOURCE).as_posix()}:{frame.lineno} {frame.name}"
    return inside or "outside the package"


def kind_of(outcome: Mapping[str, object]) -> tuple[str, str]:
    """What makes failures the same: their place and their exception.

    Args:
        outcome: The fields of an outcome.
    """
    return str(outcome["place"]), re.sub(r"[\d,]+", "N", str(outcome["error"]))
