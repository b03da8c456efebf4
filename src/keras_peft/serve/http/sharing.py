"""Cross-origin resource sharing (CORS): requests from the web pages of other sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from keras_peft.serve.settings import ServeSettings

# Response headers that the scripts of a page can read.
_READABLE = (
    "retry-after",
    "x-request-id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-compute-tokens",
    "x-cut-texts",
    "x-total-time",
    "x-tokenization-time",
    "x-queue-time",
    "x-inference-time",
)


def sharing(settings: ServeSettings) -> list[Middleware]:
    """Returns the middleware that answers preflight requests, if there are allowed origins.

    Browsers send preflight requests without an API key, so it is outside of the authentication. It
    is also outside of the error responses, so that pages can read these.

    Args:
        settings: Settings of the server; `allow_origins` are the origins.
    """
    if not settings.allow_origins:
        return []
    return [
        Middleware(
            CORSMiddleware,
            allow_origins=list(settings.allow_origins),
            allow_methods=["GET", "HEAD", "POST"],
            allow_headers=["*"],
            expose_headers=list(_READABLE),
        )
    ]
