"""Which request is which: its own id, and the trace that it is a part of."""

from __future__ import annotations

import os
import re
from contextvars import Token

from opentelemetry import context, trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_ID = re.compile(rb"[A-Za-z0-9._:+=-]{1,128}")
_PROPAGATOR = TraceContextTextMapPropagator()


def request_id(given: bytes | None) -> str:
    """Returns the id that a client gave its request, or a new one where that cannot stand in a log.

    Example:
        >>> request_id(b"order-17")
        'order-17'
    """
    return given.decode() if given and _ID.fullmatch(given) else os.urandom(12).hex()


def enter(traceparent: bytes | None, tracestate: bytes | None) -> Token[context.Context] | None:
    """Makes a client's trace the one that spans of this request belong to.

    See https://www.w3.org/TR/trace-context.

    Args:
        traceparent: The header, if it was sent.
        tracestate: The header, if it was sent.

    Returns:
        What `leave` takes; None where there is no trace, or one was entered before.
    """
    if traceparent is None or trace.get_current_span().get_span_context().is_valid:
        return None
    carrier = {
        "traceparent": traceparent.decode("latin-1"),
        "tracestate": (tracestate or b"").decode("latin-1"),
    }
    return context.attach(_PROPAGATOR.extract(carrier))


def leave(token: Token[context.Context] | None) -> None:
    """Leaves what `enter` entered."""
    if token is not None:
        context.detach(token)


def trace_id() -> str:
    """Returns the id of the trace that runs, 32 hexadecimal digits, or "" where none does."""
    found = trace.get_current_span().get_span_context()
    return trace.format_trace_id(found.trace_id) if found.is_valid else ""
