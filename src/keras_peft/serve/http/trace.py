"""Request IDs and OpenTelemetry trace context."""

from __future__ import annotations

import os
import re
from contextvars import Token

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_ID = re.compile(rb"[A-Za-z0-9._:+=-]{1,128}")
_PROPAGATOR = TraceContextTextMapPropagator()


def request_id(given: bytes | None) -> str:
    """Returns the request ID of a client if it is valid, else a new one.

    Args:
        given: Value of the X-Request-ID header, or None.

    Example:
        >>> request_id(b"order-17")
        'order-17'
    """
    return given.decode() if given and _ID.fullmatch(given) else os.urandom(12).hex()


def enter(traceparent: bytes | None, tracestate: bytes | None) -> Token[context.Context] | None:
    """Makes the trace of a client the parent of the spans of this request.

    See https://www.w3.org/TR/trace-context.

    Args:
        traceparent: Value of the header, or None.
        tracestate: Value of the header, or None.

    Returns:
        A token for `leave`, or None if there is no trace or one is already active.
    """
    if traceparent is None or trace.get_current_span().get_span_context().is_valid:
        return None
    carrier = {
        "traceparent": traceparent.decode("latin-1"),
        "tracestate": (tracestate or b"").decode("latin-1"),
    }
    return context.attach(_PROPAGATOR.extract(carrier))


def leave(token: Token[context.Context] | None) -> None:
    """Restores the trace context from before `enter`.

    Args:
        token: Result of `enter`.
    """
    if token is not None:
        context.detach(token)


def trace_id() -> str:
    """Returns the ID of the current trace as 32 hexadecimal digits, or "" if there is none."""
    found = trace.get_current_span().get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else ""
