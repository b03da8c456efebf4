"""Limits on the connections of a server."""

from __future__ import annotations

import asyncio
from collections import Counter
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from keras_peft.serve.failures import Overloaded
from keras_peft.serve.http.authentication import PROBES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from keras_peft.serve.settings import ServeSettings


class Connection(Protocol):
    """An open connection.

    Attributes:
        client: Address and port of the client; None for a local socket.
        transport: Transport of the connection.
        unread_since: Time since when responses wait for the client to read, on the clock of
            `time.monotonic`, or None.
    """

    client: tuple[str, int] | None
    transport: asyncio.Transport
    unread_since: float | None


EXCESS = "keras_peft.excess"
"""Key of the ASGI scope that says why a connection is one too many."""
# Descriptors for the files of bundles and for logs.
_FILES = 16
_OPEN_FILES = Path("/proc/self/fd")


class Connections:
    """The open connections of a server, with limits on their number.

    Connections beyond the limits are for probes only, so that a server without free connections is
    still found alive. There are `settings.probe_connections` of these; a further one replaces the
    oldest.

    Args:
        settings: Settings of the server.

    Attributes:
        most: Maximum number of ordinary connections.
        most_per_address: Maximum number of ordinary connections of a client address.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._open: dict[Connection, str] = {}
        self._of_address: Counter[str] = Counter()
        self._for_probes: dict[Connection, None] = {}
        self.fit()

    def __len__(self) -> int:
        return len(self._open)

    def fit(self) -> None:
        """Adapts the limits to the number of files that the process may still open."""
        self.most = self._settings.max_connections
        if (free := free_descriptors()) is not None:
            self.most = max(1, min(self.most, free - self._settings.probe_connections - _FILES))
        half = (self.most + 1) // 2
        self.most_per_address = min(self._settings.max_connections_per_address or half, self.most)

    def add(self, connection: Connection) -> str:
        """Counts a new connection.

        Args:
            connection: The connection.

        Returns:
            Why it is one too many, and for probes only; empty if it is not.
        """
        address = _network(connection.client[0] if connection.client else "")
        if len(self._open) >= self.most:
            excess = f"The server has {self.most} connections, the most that it accepts"
        elif self._of_address[address] >= self.most_per_address:
            excess = f"This address has {self.most_per_address} connections, the most that the server accepts"
        else:
            self._open[connection] = address
            self._of_address[address] += 1
            return ""
        if len(self._for_probes) >= self._settings.probe_connections:
            oldest = next(iter(self._for_probes))
            del self._for_probes[oldest]
            oldest.transport.abort()
        self._for_probes[connection] = None
        return f"{excess}; close some, or try again later."

    def remove(self, connection: Connection) -> None:
        """Forgets a connection that is closed.

        Args:
            connection: The connection.
        """
        self._for_probes.pop(connection, None)
        address = self._open.pop(connection, None)
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def close_unread(self, now: float) -> None:
        """Closes the connections whose clients do not read their responses.

        Args:
            now: The time, on the clock of `time.monotonic`.
        """
        for connection in [*self._open, *self._for_probes]:
            if not connection.transport.get_write_buffer_size():
                connection.unread_since = None
            elif connection.unread_since is None:
                connection.unread_since = now
            elif now - connection.unread_since >= self._settings.write_timeout_s:
                connection.transport.abort()


class ConnectionLimits:
    """ASGI middleware that answers nothing but probes on connections beyond the limits.

    Args:
        app: The wrapped application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the wrapped application, or refuses the request.

        Args:
            scope: ASGI scope.
            receive: ASGI receive function.
            send: ASGI send function.

        Raises:
            Overloaded: If the server or the address of the client has too many connections.
        """
        if EXCESS in scope and scope["path"] not in PROBES:
            raise Overloaded(scope[EXCESS], retry_after=1)
        await self._app(scope, receive, send)


def free_descriptors() -> int | None:
    """Returns how many files the process may still open; None if the system does not say."""
    try:
        import resource

        used = sum(1 for _ in _OPEN_FILES.iterdir())
    except (ImportError, OSError):
        return None
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if most == resource.RLIM_INFINITY else most - used


def _network(address: str) -> str:
    """Returns what one client can choose from: of IPv6, a network of 64 bits."""
    if ":" not in address:
        return address
    try:
        known = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, IPv6Address) and known.ipv4_mapped is None:
        return known.exploded[:19]
    return str(known.ipv4_mapped) if isinstance(known, IPv6Address) else address
