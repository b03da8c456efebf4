"""Rate limits of the API keys, with the headers of OpenAI."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_peft.serve.http.call import Call
from keras_peft.serve.http.failures import RateLimited
from keras_peft.serve.rate_limits import RateLimits

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from keras_peft.serve.http.context import ServerContext


class RateLimiting:
    """ASGI middleware that refuses the requests of a key beyond its limit.

    Only POST requests count: lists, probes and `/metrics` cost nothing.

    Args:
        app: The wrapped application.
        context: State of the server.
    """

    def __init__(self, app: ASGIApp, context: ServerContext) -> None:
        self._app, self._metrics = app, context.metrics
        self._limits = RateLimits(context.settings.requests_per_minute, context.clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the wrapped application if the key may send the request.

        Args:
            scope: ASGI scope.
            receive: ASGI receive function.
            send: ASGI send function.

        Raises:
            RateLimited: If the key has sent too many requests.
        """
        if scope["type"] == "http" and scope["method"] == "POST":
            call = Call.within(scope)
            allowance = self._limits.take(call.key)
            if allowance is not None:
                call.response_headers += [
                    (b"x-ratelimit-limit-requests", b"%d" % allowance.limit),
                    (b"x-ratelimit-remaining-requests", b"%d" % allowance.remaining),
                    (b"x-ratelimit-reset-requests", duration(allowance.reset).encode()),
                ]
                if allowance.wait:
                    name = "" if call.key is None else call.key.name
                    self._metrics.rate_limited(name)
                    raise RateLimited(
                        f"The limit of {allowance.limit} requests per minute is reached; try again in "
                        f"{allowance.wait:.1f} seconds.",
                        retry_after=allowance.wait,
                    )
        await self._app(scope, receive, send)


def duration(seconds: float) -> str:
    """Returns a duration as OpenAI writes it.

    Args:
        seconds: The duration, in seconds.

    Example:
        >>> duration(0.25), duration(12), duration(90)
        ('250ms', '12s', '1m30s')
    """
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
