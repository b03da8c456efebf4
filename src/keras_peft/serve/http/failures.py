"""What can go wrong with a request over HTTP, and the status of every failure."""

from __future__ import annotations

from keras_peft.serve.failures import (
    AdapterFailed,
    AdapterNotFound,
    BackendFailed,
    Failure,
    Invalid,
    Malformed,
    NotReady,
    Overloaded,
    TimedOut,
    TooLarge,
)


class NotAuthenticated(Failure):
    """No key, or one that is not known."""

    kind = "authentication"


class NotAllowed(Failure):
    """The key is known and is not for this."""

    kind = "authorization"


class TooSlow(Failure):
    """The client did not send the whole of its request in time."""

    kind = "timeout"


class UnsupportedMedia(Failure):
    """The body is not of a type or an encoding that is read."""

    kind = "validation"


STATUSES: dict[type[Failure], int] = {
    Malformed: 400,
    NotAuthenticated: 401,
    NotAllowed: 403,
    AdapterNotFound: 404,
    TooSlow: 408,
    AdapterFailed: 409,
    TooLarge: 413,
    UnsupportedMedia: 415,
    Invalid: 422,
    Overloaded: 429,
    BackendFailed: 500,
    NotReady: 503,
    TimedOut: 504,
}
"""The HTTP status of each failure."""
