"""JSON responses, and one error format for all protocols."""

from __future__ import annotations

import asyncio
import logging
import math
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic_core
from starlette.exceptions import HTTPException
from starlette.responses import Response

from keras_peft.errors import KerasPeftError
from keras_peft.serve.failures import BackendFailed, Failure, Invalid, NotReady
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.failures import STATUSES

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from keras_peft.serve.result import RequestResult

_LOG = logging.getLogger("keras_peft.serve")
# Kinds of the framework's own errors, by status.
_KINDS = {404: "not_found", 405: "method_not_allowed"}
CLIENT_GONE = 499


def as_json(content: Any, call: Call | None = None, *, status: int = 200) -> Response:
    """Creates a JSON response.

    Args:
        content: JSON-serializable content. Non-finite numbers become null.
        call: The request. If adapters answered it, timings are added as headers.
        status: HTTP status.

    Returns:
        The response.
    """
    headers = _measured(call, call.answers) if call is not None and call.answers is not None else None
    body = pydantic_core.to_json(content, inf_nan_mode="null")
    return Response(body, status, headers, "application/json")


def refusal(failure: Failure) -> Response:
    """Creates the response to a failed request: `{"error": …, "error_type": …}`.

    Args:
        failure: The failure.

    Returns:
        The response, with the status of the failure.
    """
    headers, status = {}, STATUSES[type(failure)]
    if failure.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(failure.retry_after)))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status in (408, 413):
        # The rest of the body is not read.
        headers["connection"] = "close"
    return _error(str(failure), failure.kind, status, headers)


class Failures:
    """ASGI middleware that turns exceptions into responses.

    The response to an unexpected error contains no details. Its type and location are logged, but
    not its message, which may contain a request text.

    Args:
        app: The wrapped application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the wrapped application and responds to its exceptions.

        Args:
            scope: ASGI scope.
            receive: ASGI receive function.
            send: ASGI send function.
        """
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = False

        async def sent(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        call = Call.within(scope)
        try:
            return await self._app(scope, receive, sent)
        except Failure as error:
            failure = error
        except asyncio.CancelledError:
            if not call.context.draining:
                raise
            failure = NotReady(
                "The server shut down before the response was ready; try another server, or try again later."
            )
        except KerasPeftError as error:
            _LOG.error("%s: %s", call.id, described(error))
            failure = Invalid("The request could not be processed; see the server's log.")
        except Exception as error:
            _LOG.error("%s: %s", call.id, described(error))
            failure = BackendFailed(
                f"Internal server error; see the server's log for the request id {call.id}."
            )
        call.kind = failure.kind
        if not started:
            await refusal(failure)(scope, receive, send)
        return None


def described(error: BaseException) -> str:
    """Returns the type of an exception and where it was raised, without its message.

    Args:
        error: The exception.

    Returns:
        The type and up to six traceback locations, innermost first.
    """
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    places = ", ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {places}"


async def framework_refusal(request: Any, error: Exception) -> Response:
    """Converts an error of the framework, such as an unknown path, to the shared error format.

    Args:
        request: The request.
        error: Exception of the framework.

    Returns:
        The response.
    """
    status = error.status_code if isinstance(error, HTTPException) else 500
    kind = _KINDS.get(status, "validation")
    Call.of(request).kind = kind
    messages = {
        404: "There is nothing at this path; /openapi.json lists the paths.",
        405: "This path does not support that method; /openapi.json lists the methods.",
    }
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    return _error(messages.get(status, "The request is invalid."), kind, status, headers)


def _measured(call: Call, answers: RequestResult) -> dict[str, str]:
    """Returns the timing headers of Text Embeddings Inference, in whole milliseconds."""
    headers = {
        "x-compute-type": "cpu",
        "x-compute-tokens": str(answers.tokens),
        "x-total-time": str(round(call.seconds * 1000)),
        "x-tokenization-time": str(round(answers.tokenizing * 1000)),
        "x-queue-time": str(round(answers.queued * 1000)),
        "x-inference-time": str(round(answers.computed * 1000)),
    }
    if answers.cut:
        headers["x-cut-texts"] = str(answers.cut)
    return headers


def _error(message: str, kind: str, status: int, headers: Mapping[str, str]) -> Response:
    content = pydantic_core.to_json({"error": message, "error_type": kind})
    return Response(content, status, headers, "application/json")
