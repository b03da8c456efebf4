"""HTTP/1.1 on one connection, with limits on what its client can send and leave unread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import httptools
import pydantic_core
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from keras_peft.serve.http.connections import EXCESS, Connections
from keras_peft.serve.http.error_formats import format_of
from keras_peft.serve.http.transport import LingeringTransport

if TYPE_CHECKING:
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from keras_peft.serve.http.context import ServerContext

MAX_HEADER_BYTES = 32_768
# Maximum time to receive the headers on a connection that is for probes only, in seconds.
_PROBE_SECONDS = 2.0


class Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1 protocol with limits on headers, pipelined requests and unread responses.

    Use `protocol` to create a subclass for a server.

    Attributes:
        context: State of the server.
        limits: The open connections of the server.
        unread_since: Time since when responses wait for the client to read, on the clock of
            `time.monotonic`, or None.
    """

    context: ServerContext
    limits: Connections

    def connection_made(self, transport: Any) -> None:
        """Counts the connection and starts the timer for the first request.

        Args:
            transport: Transport of the connection.
        """
        settings = self.context.settings
        self._size = self._known = 0
        self._in_headers, self._is_deaf = True, False
        self._running: RequestResponseCycle | None = None
        self._last: RequestResponseCycle | None = None
        self.unread_since: float | None = None
        self._graceful = LingeringTransport(transport, self.loop, settings.linger_s)
        super().connection_made(self._graceful)
        self._excess = self.limits.add(self)
        self._patience = settings.idle_timeout_s
        if self._excess:
            self._patience = min(self._patience, _PROBE_SECONDS)
        self._clock = self.loop.call_later(self._patience, self.close_when_answered)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the timers.

        Args:
            exc: The error, or None if the connection was closed normally.
        """
        self._clock.cancel()
        self._unset_keepalive_if_required()
        self._graceful.lost()
        self.limits.remove(self)
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            # Uvicorn tells only the last of several pipelined requests.
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses incoming data and limits the total size of the headers.

        Args:
            data: Received bytes.
        """
        if self._is_deaf or self._graceful.is_closing():
            return
        if self._in_headers:
            self._size += len(data)
        self._unset_keepalive_if_required()
        # Unlike Uvicorn, it does not log what clients send wrong.
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("")
        except httptools.HttpParserUpgrade:
            # There is no other protocol, so the request is answered as it is.
            pass
        if self._in_headers and self._size > MAX_HEADER_BYTES and not self._graceful.is_closing():
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Restarts the timer for a new request."""
        super().on_message_begin()
        self._clock.cancel()
        self._clock = self.loop.call_later(self._patience, self.close_when_answered)
        self._in_headers, self._known, self._hosts = True, 0, 0

    def on_url(self, url: bytes) -> None:
        """Counts the bytes of the URL.

        Args:
            url: A part of the URL.
        """
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts the bytes of a header, including its separators.

        Args:
            name: Name of the header.
            value: Value of the header.
        """
        super().on_header(name, value)
        if self.headers[-1][0] == b"host":
            self._hosts += 1
        self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        """Checks the request and queues it; `BodyLimits` times the body."""
        if self._hosts > 1:
            raise httptools.HttpParserError("More than one Host header.")
        if len(self.pipeline) >= self.context.settings.max_pipelined:
            raise httptools.HttpParserError("Too many pipelined requests.")
        self._clock.cancel()
        self._in_headers, self._size = False, 0
        super().on_headers_complete()
        if self._excess:
            cast("dict[str, Any]", self.scope)[EXCESS] = self._excess
            self.cycle.keep_alive = False
        elif self.context.draining:
            self._close_after_last()

    def close_when_answered(self) -> None:
        """Reads no further requests, and closes the connection after the responses to the previous ones."""
        self._is_deaf = True
        if self._is_answered:
            self._graceful.close()
        else:
            self._close_after_last()

    def tell_draining(self) -> None:
        """Makes the response to the last request so far say that the connection closes."""
        if not self._is_answered:
            self._close_after_last()

    def shutdown(self) -> None:
        """Closes the connection after its last response.

        A request may be on its way, so an idle connection stays open for `linger_s`.
        """
        self.tell_draining()
        if self._is_answered:
            self._unset_keepalive_if_required()
            self._clock.cancel()
            self._clock = self.loop.call_later(self.context.settings.linger_s, self.close_when_answered)

    def send_400_response(self, msg: str) -> None:
        """Refuses invalid HTTP with status 400 or large headers with 431, and closes the connection.

        Responses keep the order of the requests. If an earlier request has none yet, the connection
        closes after the response to that one.

        Args:
            msg: Message of Uvicorn; not used.
        """
        if self._graceful.is_closing() or self._is_deaf:
            return
        self._is_deaf = True
        if not self._in_headers and not self._is_answered:
            self._give_up_body()
        if not self._is_answered:
            self._close_after_last()
            return
        if self._graceful.is_closing():
            return
        is_large = self._in_headers and max(self._size, self._known) > MAX_HEADER_BYTES
        status = 431 if is_large else 400
        message = (
            f"The headers are too large; expected at most {MAX_HEADER_BYTES:,} bytes."
            if is_large
            else "This is not a valid HTTP/1.1 request with one Host header."
        )
        path = getattr(self, "url", b"").partition(b"?")[0].decode("latin-1")
        content = pydantic_core.to_json(format_of(path).content(message, kind="validation", status=status))
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
            content
        )
        self._graceful.write(STATUS_LINE[status] + head + content)
        self._graceful.close()

    @property
    def _is_answered(self) -> bool:
        """Whether every request so far has its response."""
        return self.cycle is None or self.cycle.response_complete

    def _close_after_last(self) -> None:
        """Closes the connection after the response to the last request, and not after an earlier one."""
        if self._last is not None and not self._last.response_started:
            self._last.keep_alive = True
        self._last = self.cycle
        self.cycle.keep_alive = False

    def _give_up_body(self) -> None:
        """Drops the last request, whose body is not valid."""
        broken = self.cycle
        if self.pipeline and self.pipeline[0][0] is broken:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else cast("RequestResponseCycle", self._running)
            return
        if broken.response_started:
            self._graceful.close()
        broken.disconnected = broken.response_complete = True
        broken.message_event.set()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _count(self, size: int) -> None:
        self._known += size
        if self._known > MAX_HEADER_BYTES:
            # The parser raises it as its own error, and Uvicorn then closes the connection.
            raise httptools.HttpParserError("The headers are too large.")


def protocol(context: ServerContext, limits: Connections) -> type[Protocol]:
    """Creates the protocol class of a server.

    Args:
        context: State of the server.
        limits: The open connections of the server.

    Returns:
        A subclass of `Protocol`.
    """
    return type("ServerProtocol", (Protocol,), {"context": context, "limits": limits})
