"""Prometheus metrics."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response

from keras_peft.serve.http.call import Call
from keras_peft.serve.http.routes._document import says
from keras_peft.serve.metrics import OTHERS, exposition

if TYPE_CHECKING:
    from keras_peft.serve.keys import Key

router = APIRouter(tags=["Metrics"])


@router.get("/metrics", response_class=Response, responses=says("The metrics."))
async def metrics(request: Request) -> Response:
    """Show the metrics in the format of Prometheus, without the adapters that the API key may not use."""
    call = Call.of(request)
    key = call.key
    # Without keys, or if the metrics are open, everybody sees all.
    shown = None if key is None else partial(_is_shown, key)
    families = await call.context.families()
    text, media_type = exposition(families, request.headers.get("accept", ""), shown)
    return Response(text, media_type=media_type)


def _is_shown(key: Key, label: str, value: str) -> bool:
    """Returns whether an API key may see the series of an adapter or of a key."""
    if label == "key":
        return key.admin or value == key.name
    return value == OTHERS or key.may_use(value)
