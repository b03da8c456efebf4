"""Failures of a request, independent of the protocol.

The messages say what is expected and what to do next. They never contain texts of a request or
paths of the server.
"""

from __future__ import annotations

from typing import ClassVar

from keras_peft.errors import KerasPeftError

LATE = "The request timed out; send fewer or shorter texts, or try again later."
"""Message for a request whose deadline has passed."""


class Failure(KerasPeftError):
    """Base class for the failures of a request.

    Args:
        message: Message for the client.
        retry_after: Time after which the request may be retried, in seconds, or None.
        field: Field of the request that caused the failure, or None.

    Attributes:
        kind: Kind of the failure, for programs; sent as `error_type`.
        retry_after: Time after which the request may be retried, in seconds, or None.
        field: Field of the request that caused the failure, or None.
    """

    kind: ClassVar[str] = "backend"

    def __init__(self, message: str, *, retry_after: float | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.retry_after, self.field = retry_after, field


class Malformed(Failure):
    """The request cannot be parsed, or is empty."""

    kind = "validation"


class AdapterNotFound(Failure):
    """There is no adapter of that name."""

    kind = "adapter_not_found"


class AdapterFailed(Failure):
    """The bundle cannot be loaded, as the request asks; the message gives the reason."""

    kind = "adapter_failed"


class AdapterUnavailable(Failure):
    """The request needs an adapter whose bundle could not be loaded; the message gives the reason."""

    kind = "adapter_failed"


class TooLarge(Failure):
    """The body or the number of texts exceeds a limit of the server."""

    kind = "validation"


class Invalid(Failure):
    """The request is well-formed, but its values are invalid."""

    kind = "validation"


class Overloaded(Failure):
    """The queue is full."""

    kind = "overloaded"


class BackendFailed(Failure):
    """The base model or a head raised an error, which is logged."""

    kind = "backend"


class NotReady(Failure):
    """The server is starting or shutting down, or the adapter is not available."""

    kind = "unhealthy"


class TimedOut(Failure):
    """The deadline passed before the response was ready."""

    kind = "timeout"
