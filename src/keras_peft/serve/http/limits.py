"""Limits on the size and duration of request bodies. Refused data is not kept in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from keras_peft.serve.failures import Overloaded, TooLarge
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.failures import TooSlow, UnsupportedMedia

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from keras_peft.serve.settings import ServeSettings

PARTED = b"inference-header-content-length"
"""Header of a body that consists of JSON followed by binary tensors."""
# Maximum memory for bodies that are being read or processed, as a multiple of `max_body_bytes`.
_BODIES = 32
# A body above the limit is read to its end if it has at most this multiple of the limit: many
# clients read the response only after they have sent the whole request.
_LINGERING = 4
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS"})


class BodyLimits:
    """ASGI middleware that reads the body and cancels the request if the client disconnects.

    Args:
        app: The wrapped application. It finds the body in the `Call`.
        settings: Settings of the server.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._most = settings.max_body_bytes
        self._idle = settings.idle_timeout_s
        self._longest = settings.deadline_ms / 1000
        self._bytes_held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the body and calls the wrapped application.

        Args:
            scope: ASGI scope.
            receive: ASGI receive function.
            send: ASGI send function.

        Raises:
            UnsupportedMedia: If the body is compressed or is not JSON.
            TooLarge: If the body is larger than `max_body_bytes`.
            TooSlow: If the body does not arrive in time.
            Overloaded: If too many large bodies are in memory.
        """
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
            Whether the client is still connected.

        Raises:
            UnsupportedMedia: If the body is compressed or is not JSON.
            TooLarge: If the body is larger than `max_body_bytes`.
            TooSlow: If the client pauses for `idle_timeout_s`, or takes longer than `deadline_ms`.
            Overloaded: If too many large bodies are in memory.
        """
        if call.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            raise UnsupportedMedia(
                "Compressed bodies are not supported; send the body without Content-Encoding."
            )
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
                        raise Overloaded("Too many large requests at a time; try again later.", retry_after=1)
                    if not message.get("more_body", False):
                        break
                    timer.reschedule(min(end, loop.time() + self._idle))
        except TimeoutError:
            raise TooSlow(
                f"The body did not arrive in time; expected more of it every {self._idle:g} s, and all of "
                f"it within {self._longest:g} s."
            ) from None
        if size > self._most:
            raise self._too_large()
        kind = call.headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
        is_json = kind == b"application/json" or kind.endswith(b"+json") or PARTED in call.headers
        if call.body and not is_json:
            raise UnsupportedMedia("Expected JSON; set the header Content-Type: application/json.")
        return True

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The body has more than {self._most:,} bytes; send fewer texts per request.")


async def _while_there(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Runs an application until it has responded or the client disconnects."""
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
        # The body has been read. `watch` handles disconnects by cancelling the task.
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
