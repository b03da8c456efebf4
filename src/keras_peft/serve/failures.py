"""What can go wrong with a request: its HTTP status and its kind, in one place.

A message says what was expected and what to do next. It never holds a text that was
sent, nor a path of the server.
"""

from __future__ import annotations

from typing import ClassVar

from keras_peft.errors import KerasPeftError


class Failure(KerasPeftError):
    """A request that is not answered as it was asked.

    Attributes:
        status: The HTTP status.
        kind: What it is, for programs: `error_type` in the answer.
        retry_after: Seconds after which it may be tried again, or None.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "backend"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Malformed(Failure):
    """The request cannot be read: no JSON, or nothing in it."""

    status, kind = 400, "validation"


class NotAuthenticated(Failure):
    """No key, or one that is not known."""

    status, kind = 401, "authentication"


class NotAllowed(Failure):
    """The key is known and is not for this."""

    status, kind = 403, "authorization"


class AdapterNotFound(Failure):
    """There is no adapter of that name."""

    status, kind = 404, "adapter_not_found"


class AdapterFailed(Failure):
    """The adapter's bundle cannot be used; the message says why."""

    status, kind = 409, "adapter_failed"


class TooSlow(Failure):
    """The client did not send the whole of its request in time."""

    status, kind = 408, "timeout"


class TooLarge(Failure):
    """The body, or the number of texts, is larger than the server takes."""

    status, kind = 413, "validation"


class UnsupportedMedia(Failure):
    """The body is not of a type or an encoding that is read."""

    status, kind = 415, "validation"


class Invalid(Failure):
    """The request can be read, and what it asks for cannot be done."""

    status, kind = 422, "validation"


class Overloaded(Failure):
    """The queue is full."""

    status, kind = 429, "overloaded"


class BackendFailed(Failure):
    """The base or a head failed; the log says why."""

    status, kind = 500, "backend"


class NotReady(Failure):
    """The server starts, drains, or the adapter is being loaded."""

    status, kind = 503, "unhealthy"


class TimedOut(Failure):
    """The deadline passed before there was an answer."""

    status, kind = 504, "timeout"
