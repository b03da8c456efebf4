"""Middleware of Ray's HTTP proxy: requests whose replica is killed get 503 with Retry-After.

Ray's own proxy answers them with 500 and a text that no client of a protocol reads. Ray loads the middleware where the
environment variable RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH names `middleware` when Ray is started.
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


def middleware() -> list[Middleware]:
    """Returns the middleware; Ray's proxy calls this when it starts."""
    return [Middleware(LostRequests)]


class LostRequests:
    """ASGI middleware that answers requests which Ray's proxy cannot answer, with 503 and Retry-After.

    Args:
        app: Ray's proxy. When a replica is lost, it returns without a response.
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
        is_answered = False

        async def sent(message: Message) -> None:
            nonlocal held, is_answered
            if message["type"] == "http.response.start":
                message = _with_retry(message)
                if _has_length(message):
                    # The replica may be killed before it sends the body. It follows at once.
                    held = message
                    return
            elif held is not None:
                start, held = held, None
                is_answered = True
                await send(start)
            is_answered = True
            await send(message)

        await self._app(scope, receive, sent)
        if not is_answered:
            lost = NotReady("The server that had this request has ended; send it again.", retry_after=_AFTER)
            await refusal(lost, scope["path"])(scope, receive, send)
        return None


def _with_retry(start: Message) -> Message:
    """Adds Retry-After to a 503 without it, and removes the request ID that Ray adds a second time."""
    headers = list(dict.fromkeys((bytes(name).lower(), bytes(value)) for name, value in start["headers"]))
    if start["status"] == 503 and all(name != b"retry-after" for name, _ in headers):
        headers.append((b"retry-after", str(_AFTER).encode()))
    return {**start, "headers": headers}


def _has_length(start: Message) -> bool:
    return any(name == b"content-length" for name, _ in start["headers"])
