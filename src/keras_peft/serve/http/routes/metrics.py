"""Prometheus metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from keras_peft.serve.http.call import Call
from keras_peft.serve.http.routes._document import says

router = APIRouter(tags=["Metrics"])


@router.get("/metrics", response_class=Response, responses=says("The metrics."))
async def exposition(request: Request) -> Response:
    """Show the metrics in the format of Prometheus."""
    metrics = Call.of(request).context.metrics
    text, media_type = metrics.exposition(request.headers.get("accept", ""))
    return Response(text, media_type=media_type)
