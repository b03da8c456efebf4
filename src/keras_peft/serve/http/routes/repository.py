"""Triton's model repository extension: list, load and unload adapters by name, never by path."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from keras_peft.serve.failures import Invalid
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._document import answers, reads

router = APIRouter(prefix="/v2/repository", tags=["Repository"])
control = APIRouter(prefix="/v2/repository", tags=["Repository"])


class IndexBody(BaseModel):
    """Filter for the list of adapters."""

    ready: bool = Field(default=False, description="true for loaded adapters only")


class IndexEntry(BaseModel):
    """Name and state of an adapter: READY, LOADING, UNLOADING or UNAVAILABLE."""

    name: str
    version: str
    state: str
    reason: str


# Triton's names for the states of an adapter.
_STATES = {"READY": "READY", "LOADING": "LOADING", "DRAINING": "UNLOADING"}


@router.post("/index", openapi_extra=reads(IndexBody, required=False), responses=answers(list[IndexEntry]))
async def index(request: Request) -> Response:
    """List the adapters that the API key may use."""
    call = Call.of(request)
    asked = call.read(IndexBody) if call.body else IndexBody()
    content = [
        {
            "name": one.name,
            "version": str(one.generation),
            "state": _STATES.get(one.state, "UNAVAILABLE"),
            "reason": one.reason or "",
        }
        for one in call.statuses()
        if one.state == "READY" or not asked.ready
    ]
    return as_json(content)


class ParametersBody(BaseModel):
    """Triton's load and unload parameters; none are supported."""

    parameters: dict[str, Any] = Field(default_factory=dict, description="an empty object")


@control.post("/models/{name}/load", openapi_extra=reads(ParametersBody, required=False))
async def load(name: str, request: Request) -> Response:
    """Load or reload an adapter; the previous generation answers until the new one is ready."""
    call = Call.of(request)
    _check(call, name)
    loaded = await call.context.load(name)
    call.adapters = [name]
    return as_json({"name": name, "version": str(loaded.generation), "state": "READY"})


@control.post("/models/{name}/unload", openapi_extra=reads(ParametersBody, required=False))
async def unload(name: str, request: Request) -> Response:
    """Unload an adapter after its pending requests."""
    call = Call.of(request)
    _check(call, name)
    await call.context.unload(name)
    call.adapters = [name]
    return as_json({"name": name, "state": "UNAVAILABLE"})


def _check(call: Call, name: str) -> None:
    """Checks that the API key may change the adapter, and that there are no parameters."""
    call.need_admin()
    call.check(name)
    given = call.read(ParametersBody).parameters if call.body else {}
    if set(given) - {"unload_dependents"}:
        raise Invalid("`parameters`: not supported; an adapter is loaded from the server's folder.")
