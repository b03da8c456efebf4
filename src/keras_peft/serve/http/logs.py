"""JSON logs, with one line per request and per event, and request metrics."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

import pydantic_core

from keras_peft.printable import printable_json
from keras_peft.serve.http import trace
from keras_peft.serve.http.authentication import PROBES
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import CLIENT_GONE, described

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from keras_peft.serve.http.context import ServerContext

_LOG = logging.getLogger("keras_peft.serve.requests")
# Paths that load balancers and Prometheus poll every few seconds.
_QUIET = PROBES | {"/metrics"}
_UNKNOWN = "unknown"


class JsonFormatter(logging.Formatter):
    """Formats log records as lines of JSON with the fields `time`, `level` and `event`.

    Of an exception, only its type and location are logged: its message may contain a request text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Returns a record as a line of JSON.

        Args:
            record: The log record.
        """
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "message"),
        }
        line |= getattr(record, "fields", None) or {"logger": record.name, "message": record.getMessage()}
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = described(record.exc_info[1])
        return printable_json(pydantic_core.to_json(line).decode())


def configure() -> None:
    """Sends all logs, Python warnings and uncaught exceptions to stderr, as lines of JSON.

    Call it again after importing libraries, some of which install log handlers of their own.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            logger.handlers, logger.propagate = [], True
    logging.root.handlers = [handler]
    logging.getLogger("keras_peft").setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = lambda raised: _uncaught(
        raised.exc_type, raised.exc_value or raised.exc_type(), raised.exc_traceback
    )
    # The tokenizers' library itself writes its panics to stderr, with a backtrace if this variable is set.
    os.environ["RUST_BACKTRACE"] = "0"
    # The log lines do not contain these, and collecting them is slow.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Logs an exception that nothing has caught."""
    if not issubclass(kind, SystemExit):
        logging.getLogger("keras_peft").critical("Uncaught exception.", exc_info=(kind, error, trace))


class RequestLog:
    """Outermost ASGI middleware: creates the `Call`, then logs and counts the request.

    Args:
        app: The wrapped application.
        context: State of the server.
    """

    def __init__(self, app: ASGIApp, context: ServerContext) -> None:
        self._app, self._context = app, context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the wrapped application.

        Args:
            scope: ASGI scope.
            receive: ASGI receive function.
            send: ASGI send function.
        """
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
                own = (b"x-request-id", call.id.encode())
                message["headers"] = [*message.get("headers", ()), own, *call.response_headers]
            await send(message)

        token = trace.enter(headers.get(b"traceparent"), headers.get(b"tracestate"))
        try:
            await self._app(scope, receive, sent)
        finally:
            self._told(call, scope, status)
            trace.leave(token)
        return None

    def _told(self, call: Call, scope: Scope, status: int) -> None:
        """Counts and logs a completed request."""
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
        _LOG.log(
            level, "%s %s %d", scope["method"], route, status, extra={"event": "request", "fields": known}
        )
