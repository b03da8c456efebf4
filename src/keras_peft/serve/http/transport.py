"""A transport whose connections end gracefully, so that clients can read their last response."""

from __future__ import annotations

import asyncio
from typing import Any


class LingeringTransport(asyncio.Transport):
    """Transport that ends the writing side first, and closes when the client has closed too.

    A socket that is closed while received data is unread resets the connection, which can destroy
    a response on its way. So `close` sends the end of the data, and the protocol drops what it
    receives until the client closes, for up to `linger` seconds. See RFC 9112, section 9.6.

    Args:
        transport: Transport of the connection.
        loop: Event loop of the connection.
        linger: Maximum time to wait for the client, in seconds.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, linger: float) -> None:
        super().__init__()
        self._transport, self._loop, self._linger = transport, loop, linger
        self._is_over = False
        self._timer: asyncio.TimerHandle | None = None
        # Attributes instead of methods save a call for each response.
        self.write = transport.write  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.get_write_buffer_size = transport.get_write_buffer_size  # type: ignore[method-assign]

    def is_closing(self) -> bool:
        """Returns whether the connection is closed or lingers; nothing more is sent then."""
        return self._is_over or self._transport.is_closing()

    def close(self) -> None:
        """Ends the writing side after the data that is still to be sent, and waits for the client."""
        if self._is_over:
            return
        self._end()
        if self._transport.is_closing():
            return
        try:
            self._transport.write_eof()
        except (OSError, RuntimeError):  # The client has left.
            self._transport.close()
            return
        # Otherwise the end of the client's data would not be noticed.
        self._transport.resume_reading()
        self._timer = self._loop.call_later(self._linger, self._transport.close)

    def abort(self) -> None:
        """Closes the connection now and drops the data that is still to be sent."""
        self._end()
        self._transport.abort()

    def lost(self) -> None:
        """Stops waiting for the client, once the connection is closed."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self._is_over = True
        self.write = _drop  # type: ignore[method-assign]


def _drop(data: Any) -> None:
    """Ignores what is written after the end."""
