"""HTTP-specific failures, and the HTTP status of every failure."""

from __future__ import annotations

from keras_peft.serve.failures import (
    AdapterFailed,
    AdapterNotFound,
    AdapterUnavailable,
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
    """The API key is missing or unknown."""

    kind = "authentication"


class NotAllowed(Failure):
    """The API key is valid but does not permit the request."""

    kind = "authorization"


class TooSlow(Failure):
    """The client did not send the complete request in time."""

    kind = "timeout"


class PathNotFound(Failure):
    """There is nothing at the path."""

    kind = "not_found"


class MethodNotAllowed(Failure):
    """The path does not support the HTTP method.

    Args:
        message: Message for the client.
        allow: The methods that the path supports, as in the header Allow.
    """

    kind = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class RateLimited(Failure):
    """The API key has sent more requests than its limit allows."""

    kind = "rate_limit"


class UnsupportedMedia(Failure):
    """The content type or encoding of the body is not supported."""

    kind = "validation"


STATUSES: dict[type[Failure], int] = {
    Malformed: 400,
    NotAuthenticated: 401,
    NotAllowed: 403,
    AdapterNotFound: 404,
    PathNotFound: 404,
    MethodNotAllowed: 405,
    TooSlow: 408,
    AdapterFailed: 409,
    TooLarge: 413,
    UnsupportedMedia: 415,
    Invalid: 422,
    Overloaded: 429,
    RateLimited: 429,
    BackendFailed: 500,
    AdapterUnavailable: 503,
    NotReady: 503,
    TimedOut: 504,
}
"""HTTP status of each failure."""
