"""Middleware of Ray's HTTP proxy: requests that no replica answers get 503 with Retry-After.

Ray's own proxy answers them with 500 if their replica is killed, and with 404 while no application runs, each with a
text that no client of a protocol reads. Ray loads the middleware where the environment variable
RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names `middleware` when Ray is started.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from keras_peft.serve.failures import NotReady
from keras_peft.serve.http.responses import refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

VARIABLE = "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"
"""Environment variable with the import path of `middleware`."""
PATH = f"{__name__}.middleware"
"""Value of the environment variable."""
_AFTER = 1
_LOST = "The server that had this request has ended; send it again."
_NONE = "No server runs at this address now; send the request again later."
# What Ray's proxy answers itself: the end of its 404, and its list of applications.
_NOT_FOUND, _ROUTES = b"/-/routes for available routes.", "/-/routes"


def middleware() -> list[Middleware]:
    """Returns the middleware; Ray's proxy calls this when it starts."""
    return [Middleware(LostRequests)]


class LostRequests:
    """ASGI middleware that answers requests which no replica answers, with 503 and Retry-After.

    Args:
        app: Ray's proxy. When a replica is lost, it returns without a response. Where no application has the path of a
            request, it responds with 404.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls Ray's proxy, and responds in its place where it does not.

        Args:
            scope: ASGI scope.
            receive: ASGI receive function.
            send: ASGI send function.
        """
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        held: Message | None = None
        is_answered, reason = False, _LOST

        async def sent(message: Message) -> None:
            nonlocal held, is_answered, reason
            if message["type"] == "http.response.start":
                message = _with_retry(message)
                if _has_length(message) or message["status"] == 404:
                    # The replica may be killed before it sends the body. It follows at once.
                    held = message
                    return
            elif held is not None:
                start, held = held, None
                if _is_not_found(start, message) and not await self._has_applications(scope):
                    reason = _NONE
                    return
                is_answered = True
                await send(start)
            is_answered = True
            await send(message)

        await self._app(scope, receive, sent)
        if not is_answered:
            await refusal(NotReady(reason, retry_after=_AFTER), scope["path"])(scope, receive, send)
        return None

    async def _has_applications(self, scope: Scope) -> bool:
        """Asks Ray's proxy whether any application runs; a path that none of several has stays a 404."""
        path = scope.get("root_path", "") + _ROUTES
        told: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            told.append(message)

        headers = list(scope.get("headers", ()))
        asked = {**scope, "method": "GET", "path": path, "raw_path": path.encode(), "headers": headers}
        await self._app(asked, receive, send)
        body = b"".join(message.get("body", b"") for message in told)
        # An error says that none has run yet.
        return bool(told) and told[0].get("status") == 200 and body != b"{}"


def _with_retry(start: Message) -> Message:
    """Adds Retry-After to a 503 without it, and removes the request ID that Ray adds a second time."""
    headers = list(dict.fromkeys((bytes(name).lower(), bytes(value)) for name, value in start["headers"]))
    if start["status"] == 503 and all(name != b"retry-after" for name, _ in headers):
        headers.append((b"retry-after", str(_AFTER).encode()))
    return {**start, "headers": headers}


def _is_not_found(start: Message, body: Message) -> bool:
    """Returns whether a response is that of Ray's proxy to a path that no application has."""
    return bool(start["status"] == 404) and body.get("body", b"").endswith(_NOT_FOUND)


def _has_length(start: Message) -> bool:
    return any(name == b"content-length" for name, _ in start["headers"])
