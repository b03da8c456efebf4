"""Who comes in: whoever has a key, and no pages of other sites."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from keras_peft.serve.http.call import Call
from keras_peft.serve.http.failures import NotAllowed, NotAuthenticated
from keras_peft.serve.keys import is_loopback

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from keras_peft.serve.http.context import ServerContext
    from keras_peft.serve.keys import Key

PROBES = frozenset({"/livez", "/readyz", "/health", "/ping", "/v2/health/live", "/v2/health/ready"})
"""What answers without a key."""


class Authentication:
    """ASGI middleware that lets nobody in without a key, where there are keys.

    Pages of other sites, which a browser may send here, are turned away with or without keys:
    by their Origin, and where there are no keys by the name under which they reach a server that
    only this machine is to reach (https://en.wikipedia.org/wiki/DNS_rebinding).

    Args:
        app: The application behind it.
        context: The server.
        open_paths: What may be read without a key.
    """

    def __init__(self, app: ASGIApp, context: ServerContext, open_paths: frozenset[str]) -> None:
        self._app, self._context, self._open = app, context, open_paths
        self._needs_local_name = not context.keys and is_loopback(context.settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application behind it, if the request may come in."""
        if scope["type"] == "http" and not self._is_open(scope):
            call = Call.within(scope)
            host, origin = call.headers.get(b"host", b""), call.headers.get(b"origin")
            if origin is not None and origin.partition(b"://")[2] != host:
                raise NotAllowed("Pages of other sites are not answered.")
            if self._needs_local_name and not is_local_name(host.decode("latin-1")):
                raise NotAllowed(
                    "Without keys this server answers only under localhost or an address in numbers; ask for that, or "
                    "start it with keys."
                )
            if self._context.keys:
                call.key = self._key(call.headers.get(b"authorization", b""))
                if call.key is None:
                    raise NotAuthenticated("This needs a key that is known: Authorization: Bearer KEY.")
        await self._app(scope, receive, send)

    def _key(self, authorization: bytes) -> Key | None:
        """Finds the key of a header such as `Bearer KEY`."""
        scheme, _, secret = authorization.strip().partition(b" ")
        return self._context.keys.find(secret.strip()) if scheme.lower() == b"bearer" else None

    def _is_open(self, scope: Scope) -> bool:
        return scope["path"] in self._open and scope["method"] in ("GET", "HEAD")


@lru_cache(maxsize=64)
def is_local_name(host: str) -> bool:
    """Tells whether a Host header has a name that no other site can have."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").lower()
    try:
        return bool(ip_address(name))
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
