"""Authentication by API key, and protection against requests from other sites."""

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
"""Paths that need no API key."""
# Pages that change nothing, to which other sites may link.
_LINKED = frozenset({"/docs"})


class Authentication:
    """ASGI middleware that requires an API key if the server has any.

    It also refuses requests that a browser sends on behalf of other sites, with or without API
    keys. It compares the Origin header with the Host header and with `allow_origins`. Browsers send
    no Origin with images, frames and links, so it then reads Sec-Fetch-Site and Referer. A server without API keys on a
    loopback address also requires a local host name, as a protection against DNS rebinding
    (https://en.wikipedia.org/wiki/DNS_rebinding).

    Args:
        app: The wrapped application.
        context: State of the server.
        open_paths: Paths that are readable without an API key.
    """

    def __init__(self, app: ASGIApp, context: ServerContext, open_paths: frozenset[str]) -> None:
        self._app, self._context, self._open = app, context, open_paths
        self._origins = frozenset(origin.encode() for origin in context.settings.allow_origins)
        self._needs_local_name = not context.keys and is_loopback(context.settings.host)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the wrapped application if the request is allowed.

        Args:
            scope: ASGI scope.
            receive: ASGI receive function.
            send: ASGI send function.

        Raises:
            NotAllowed: If the request comes from another site.
            NotAuthenticated: If the API key is missing or unknown.
        """
        if scope["type"] == "http" and not self._is_open(scope):
            call = Call.within(scope)
            host, origin = call.headers.get(b"host", b""), call.headers.get(b"origin")
            if not (self._is_allowed(origin, host) if origin is not None else self._is_own(scope, call)):
                raise NotAllowed("Requests from other sites are not allowed.")
            if self._needs_local_name and not is_local_name(host.decode("latin-1")):
                raise NotAllowed(
                    "Without API keys, this server only accepts requests to localhost or an IP address; use "
                    "one of these, or start the server with API keys."
                )
            if self._context.keys:
                call.key = self._key(call.headers.get(b"authorization", b""))
                if call.key is None:
                    raise NotAuthenticated("A valid API key is required: Authorization: Bearer KEY.")
        await self._app(scope, receive, send)

    def _is_allowed(self, origin: bytes, host: bytes) -> bool:
        return origin.partition(b"://")[2] == host or origin in self._origins or b"*" in self._origins

    def _is_own(self, scope: Scope, call: Call) -> bool:
        """Returns whether a request without an Origin comes from a program, this server's pages or an allowed site."""
        site, referer = call.headers.get(b"sec-fetch-site"), call.headers.get(b"referer")
        if (site is None and referer is None) or scope["path"] in _LINKED:
            return True
        if referer:
            scheme, _, rest = referer.partition(b"://")
            origin = scheme + b"://" + rest.partition(b"/")[0].partition(b"?")[0]
            return self._is_allowed(origin, call.headers.get(b"host", b""))
        return site not in (b"cross-site", b"same-site")

    def _key(self, authorization: bytes) -> Key | None:
        """Returns the API key of a header such as `Bearer KEY`."""
        scheme, _, secret = authorization.strip().partition(b" ")
        return self._context.keys.find(secret.strip()) if scheme.lower() == b"bearer" else None

    def _is_open(self, scope: Scope) -> bool:
        return scope["path"] in self._open and scope["method"] in ("GET", "HEAD")


@lru_cache(maxsize=64)
def is_local_name(host: str) -> bool:
    """Returns whether a Host header names an address or localhost, which no other site can claim.

    Args:
        host: Value of the header, with or without a port.
    """
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    name = name.strip("[]").lower()
    try:
        return bool(ip_address(name))
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
