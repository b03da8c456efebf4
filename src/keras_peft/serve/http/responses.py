"""JSON responses, and error responses in the format of the protocol."""

from __future__ import annotations

import asyncio
import logging
import math
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydantic_core
from starlette.exceptions import HTTPException
from starlette.responses import Response

from keras_peft.errors import KerasPeftError
from keras_peft.serve.failures import BackendFailed, Failure, Invalid, NotReady
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.error_formats import format_of
from keras_peft.serve.http.failures import STATUSES, MethodNotAllowed, PathNotFound

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from keras_peft.serve.result import RequestResult

_LOG = logging.getLogger("keras_peft.serve")
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


def refusal(failure: Failure, path: str) -> Response:
    """Creates the response to a failed request.

    Args:
        failure: The failure.
        path: Path of the request, which selects the error format.

    Returns:
        The response, with the status of the failure.
    """
    form, headers, status = format_of(path), {}, STATUSES[type(failure)]
    if failure.retry_after is not None:
        headers["retry-after"] = str(max(1, math.ceil(failure.retry_after)))
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if status in (408, 413):
        # The rest of the body is not read.
        headers["connection"] = "close"
    if isinstance(failure, MethodNotAllowed):
        headers["allow"] = failure.allow
    status = form.statuses.get(status, status)
    content = form.content(str(failure), kind=failure.kind, status=status, field=failure.field)
    return Response(pydantic_core.to_json(content), status, headers, "application/json")


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
            await refusal(failure, scope["path"])(scope, receive, send)
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


async def refuse(request: Any, error: Exception) -> Response:
    """Raises an error of the framework, such as an unknown path, as a failure.

    Args:
        request: The request.
        error: Exception of the framework.

    Raises:
        PathNotFound: If there is nothing at the path.
        MethodNotAllowed: If the path does not support the method.
        Invalid: For all other errors.
    """
    status = error.status_code if isinstance(error, HTTPException) else 0
    headers = (error.headers if isinstance(error, HTTPException) else None) or {}
    if status == 404:
        raise PathNotFound("There is nothing at this path; /openapi.json lists the paths.")
    if status == 405:
        raise MethodNotAllowed(
            "This path does not support that method; /openapi.json lists the methods.",
            allow=headers.get("Allow", ""),
        )
    raise Invalid("The request is invalid.")


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
