"""Liveness and readiness probes for load balancers and Kubernetes. They need no API key."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from keras_peft.serve.failures import NotReady
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import as_json

router = APIRouter(tags=["Probes"])


@router.head("/livez", include_in_schema=False)
@router.get("/livez")
@router.head("/v2/health/live", include_in_schema=False)
@router.get("/v2/health/live")
async def live(request: Request) -> Response:
    """Report whether the server is alive, regardless of its load; if not, restart it."""
    if not Call.of(request).context.is_alive:
        raise NotReady("The workers are stuck; restart the server.")
    return as_json({"live": True})


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz")
@router.head("/v2/health/ready", include_in_schema=False)
@router.get("/v2/health/ready")
@router.head("/health", include_in_schema=False)
@router.get("/health")
@router.head("/ping", include_in_schema=False)
@router.get("/ping")
async def ready(request: Request) -> Response:
    """Report whether the server is ready for requests."""
    context = Call.of(request).context
    if context.draining:
        raise NotReady("The server is shutting down.")
    if not context.is_ready:
        raise NotReady("A required adapter is not loaded, or the workers are stuck.")
    return as_json({"ready": True})
