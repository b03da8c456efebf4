"""How large and how slow a request may be. Nothing is kept of what is refused."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from keras_peft.serve.failures import Overloaded, TooLarge
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.failures import TooSlow, UnsupportedMedia

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from keras_peft.serve.settings import ServeSettings

MAX_HEADER_BYTES = 32_768
PARTED = b"inference-header-content-length"
"""The header of a body that begins with JSON and goes on with tensors."""
# Of so many bodies of full size there may be parts at a time.
_BODIES = 32
# A body that is too large is read to its end if it has no more than so many times the limit, so
# that the client, which writes first and reads then, hears why it is refused.
_LINGERING = 4
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


class BodyLimits:
    """ASGI middleware that reads the body, and ends the work when the client goes away.

    Args:
        app: The application behind it; it finds the body in the `Call`.
        settings: What the server was told.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._most = settings.max_body_bytes
        self._idle = settings.idle_timeout_s
        self._longest = settings.deadline_ms / 1000
        self._bytes_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application behind it."""
        if scope["type"] != "http" or scope["method"] in _WITHOUT_BODY:
            return await self._app(scope, receive, send)
        call = Call.within(scope)
        try:
            if await self._read(call, receive):
                await _while_there(self._app, scope, receive, send)
        finally:
            self._bytes_held -= len(call.body)
        return None

    async def _read(self, call: Call, receive: Receive) -> bool:
        """Reads the body into the call.

        Returns:
            Whether the client is still there.

        Raises:
            UnsupportedMedia: If it is packed, or said to be something else than JSON.
            TooLarge: If it has more bytes than are taken.
            TooSlow: If the client stops to send, or takes longer than a request may.
            Overloaded: If there are too many bodies already.
        """
        if call.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMedia("Packed bodies are not read; send this one without Content-Encoding.")
        declared = int(call.headers.get(b"content-length", b"0"))
        if declared > self._most and (b"expect" in call.headers or declared > _LINGERING * self._most):
            raise self._too_large()
        loop = asyncio.get_running_loop()
        end, size = loop.time() + self._longest, 0
        try:
            async with asyncio.timeout_at(min(end, loop.time() + self._idle)) as timer:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return False
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size <= self._most:
                        call.body += chunk
                        self._bytes_held += len(chunk)
                    elif size > _LINGERING * self._most:
                        raise self._too_large()
                    if self._bytes_held > _BODIES * self._most:
                        raise Overloaded("Too many large requests at a time; ask again.", retry_after=1)
                    if not message.get("more_body", False):
                        break
                    timer.reschedule(min(end, loop.time() + self._idle))
        except TimeoutError:
            raise TooSlow(
                f"The body did not come; expected more of it every {self._idle:g} s, and all in {self._longest:g} s."
            ) from None
        if size > self._most:
            raise self._too_large()
        kind = call.headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
        is_json = kind == b"application/json" or kind.endswith(b"+json") or PARTED in call.headers
        if call.body and not is_json:
            raise UnsupportedMedia("Expected JSON; send it with the header Content-Type: application/json.")
        return True

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body has more than {self._most:,} bytes; send fewer texts at a time.")


async def _while_there(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Runs an application until it has answered or the client has gone away."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    is_answered = is_gone = False

    async def watch() -> None:
        nonlocal is_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        if not is_answered and task is not None:
            is_gone = True
            task.cancel()

    async def never() -> Message:
        # The body has been read, and who waits for the client to go is cancelled then.
        return await loop.create_future()  # type: ignore[no-any-return]

    async def sent(message: Message) -> None:
        nonlocal is_answered
        is_answered = message["type"] == "http.response.body" and not message.get("more_body", False)
        await send(message)

    watcher = loop.create_task(watch())
    try:
        await app(scope, never, sent)
    except asyncio.CancelledError:
        if not is_gone or task is None or task.uncancel():
            raise
    finally:
        is_answered = True
        watcher.cancel()


class Protocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1 with a limit on how large the headers are and how slowly they come.

    Set `idle_timeout` in a subclass; see `protocol`.
    """

    idle_timeout: float

    def connection_made(self, transport: Any) -> None:
        """Starts the clock of the first request."""
        self._size = self._known = 0
        self._in_headers = True
        super().connection_made(transport)
        self._clock = self.loop.call_later(self.idle_timeout, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock."""
        self._clock.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Counts what comes before the headers have ended."""
        if self._in_headers:
            self._size += len(data)
        super().data_received(data)
        if self._in_headers and self._size > MAX_HEADER_BYTES and not self.transport.is_closing():
            self.send_400_response("")

    def on_message_begin(self) -> None:
        """Starts the clock of a request."""
        super().on_message_begin()
        self._clock.cancel()
        self._clock = self.loop.call_later(self.idle_timeout, self.transport.close)
        self._in_headers, self._known = True, 0

    def on_url(self, url: bytes) -> None:
        """Counts the bytes of the path."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Counts the bytes of a header, with the four that part it from others."""
        super().on_header(name, value)
        self._count(len(name) + len(value) + 4)

    def on_headers_complete(self) -> None:
        """Stops the clock; from here on `BodyLimits` has one."""
        self._clock.cancel()
        self._in_headers, self._size = False, 0
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuses what is no HTTP, or has too much before its body, and closes the connection."""
        is_large = self._in_headers and max(self._size, self._known) > MAX_HEADER_BYTES
        status = 431 if is_large else 400
        message = (
            f"Headers have at most {MAX_HEADER_BYTES:,} bytes."
            if is_large
            else "This is no HTTP/1.1 request."
        )
        content = b'{"error":"%b","error_type":"validation"}' % message.encode()
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(
            content
        )
        self.transport.write(STATUS_LINE[status] + head + content)
        self.transport.close()

    def _count(self, size: int) -> None:
        self._known += size
        if self._known > MAX_HEADER_BYTES:
            # It comes out of the parser as its own error, upon which the connection is closed.
            raise httptools.HttpParserError("The headers are too large.")


def protocol(settings: ServeSettings) -> type[Protocol]:
    """Returns the protocol with a server's own limits."""
    return type("LimitedProtocol", (Protocol,), {"idle_timeout": settings.idle_timeout_s})
