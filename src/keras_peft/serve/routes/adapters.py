"""All that is known of each adapter."""

from __future__ import annotations

import dataclasses
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from keras_peft.serve.answers import as_json
from keras_peft.serve.call import Call
from keras_peft.serve.failures import AdapterNotFound
from keras_peft.serve.routes._document import answers

router = APIRouter(prefix="/v1/adapters", tags=["Adapters"])


class Listed(BaseModel):
    """The adapters."""

    data: list[dict[str, Any]]


@router.get("", responses=answers(Listed))
async def adapters(request: Request) -> Response:
    """List the adapters that the key may use, with all that is known of them."""
    call = Call.of(request)
    states = [one for one in call.state.service.adapters.states() if call.may_use(one.name)]
    return as_json({"data": [dataclasses.asdict(one) for one in states]})


@router.get("/{name}", responses=answers(dict[str, Any]))
async def adapter(name: str, request: Request) -> Response:
    """Show all that is known of an adapter."""
    call = Call.of(request)
    call.check(name)
    for one in call.state.service.adapters.states():
        if one.name == name:
            return as_json(dataclasses.asdict(one))
    raise AdapterNotFound("There is no such adapter; GET /v1/adapters lists those that there are.")
