"""What can go wrong with a request, whatever the protocol.

A message says what was expected and what to do next. It never holds a text that was
sent, nor a path of the server.
"""

from __future__ import annotations

from typing import ClassVar

from keras_peft.errors import KerasPeftError

LATE = "There was no answer before the request's deadline; send fewer or shorter texts, or try again later."
"""What is told when a deadline has passed."""


class Failure(KerasPeftError):
    """A request that is not answered as it was asked.

    Attributes:
        kind: What it is, for programs: `error_type` in the answer.
        retry_after: Seconds after which it may be tried again, or None.
    """

    kind: ClassVar[str] = "backend"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Malformed(Failure):
    """The request cannot be read: no JSON, or nothing in it."""

    kind = "validation"


class AdapterNotFound(Failure):
    """There is no adapter of that name."""

    kind = "adapter_not_found"


class AdapterFailed(Failure):
    """The adapter's bundle cannot be used; the message says why."""

    kind = "adapter_failed"


class TooLarge(Failure):
    """The body, or the number of texts, is larger than the server takes."""

    kind = "validation"


class Invalid(Failure):
    """The request can be read, and what it asks for cannot be done."""

    kind = "validation"


class Overloaded(Failure):
    """The queue is full."""

    kind = "overloaded"


class BackendFailed(Failure):
    """The base or a head failed; the log says why."""

    kind = "backend"


class NotReady(Failure):
    """The server starts, drains, or the adapter is being loaded."""

    kind = "unhealthy"


class TimedOut(Failure):
    """The deadline passed before there was an answer."""

    kind = "timeout"
