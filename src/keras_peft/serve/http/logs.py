"""A line of JSON for each request, and where its metrics are counted."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import pydantic_core

from keras_peft.serve.http import trace
from keras_peft.serve.http.authentication import PROBES
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import CLIENT_GONE, described

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from keras_peft.serve.http.context import ServerContext

_LOG = logging.getLogger("keras_peft.serve.requests")
# What balancers and Prometheus ask for every few seconds.
_QUIET = PROBES | {"/metrics"}
_UNKNOWN = "unknown"


class JsonFormatter(logging.Formatter):
    """Writes every record as a line of JSON; of an error its type and place, since its message may hold a text."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the line of a record."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
        }
        line |= getattr(record, "request", None) or {"logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = described(record.exc_info[1])
        return pydantic_core.to_json(line).decode()


def configure() -> None:
    """Sends what the server and uvicorn have to say to stderr, a line of JSON each."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name, level in (("keras_peft", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    # No line has these, and to find them out for each takes as long as to write it.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


class RequestLog:
    """ASGI middleware, the outermost: makes the `Call`, and tells of it when it has ended.

    Args:
        app: The application behind it.
        context: The server.
    """

    def __init__(self, app: ASGIApp, context: ServerContext) -> None:
        self._app, self._context = app, context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application behind it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = dict(scope["headers"])
        call = Call(self._context, trace.request_id(headers.get(b"x-request-id")), time.monotonic(), headers)
        call.enter(scope)
        status = 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"x-request-id", call.id.encode())]
                if self._context.draining:
                    # So that clients do not use this connection again.
                    own.append((b"connection", b"close"))
                message["headers"] = [*message.get("headers", ()), *own]
            await send(message)

        token = trace.enter(headers.get(b"traceparent"), headers.get(b"tracestate"))
        try:
            await self._app(scope, receive, sent)
        finally:
            self._told(call, scope, status)
            trace.leave(token)
        return None

    def _told(self, call: Call, scope: Scope, status: int) -> None:
        """Counts a request that has ended, and logs it."""
        route = getattr(scope.get("route"), "path", None) or _UNKNOWN
        status = status or CLIENT_GONE
        seconds = call.seconds
        self._context.metrics.request_ended(route=route, status=status, seconds=seconds)
        if call.kind:
            self._context.metrics.request_failed(call.kind)
        level = logging.DEBUG if route in _QUIET and status < 400 else logging.INFO
        if not _LOG.isEnabledFor(level):
            return
        line = {
            "id": call.id,
            "method": scope["method"],
            "route": route,
            "status": status,
            "seconds": round(seconds, 6),
            "adapters": list(call.adapters),
            "key": call.key.name if call.key else None,
            "error_type": call.kind or None,
            "trace_id": trace.trace_id() or None,
        }
        known = {name: value for name, value in line.items() if value not in (None, [])}
        _LOG.log(level, "%s %s %d", scope["method"], route, status, extra={"request": known})
