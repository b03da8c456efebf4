"""Status and metadata of the adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from keras_peft import tasks
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._document import answers

if TYPE_CHECKING:
    from keras_peft.serve.adapter_record import AdapterStatus

router = APIRouter(prefix="/v1/adapters", tags=["Adapters"])


class Adapter(BaseModel):
    """Status and metadata of an adapter.

    `bytes` is the memory of its weights, and `last_used` is in seconds since 1970. The metadata of
    the bundle, from `sha256` on, is available once the adapter has been loaded.
    """

    name: str
    state: str
    generation: int
    reason: str
    pinned: bool
    in_flight: int
    last_used: float | None
    bytes: int
    sha256: str | None = None
    task: str | None = None
    reads_words: bool | None = None
    labels: list[str] | None = None
    columns: list[str] | None = None
    max_length: int | None = None
    long_text: str | None = None
    abstain_below: float | None = None
    methods: list[str] | None = None
    options: list[dict[str, Any]] | None = None
    metrics: dict[str, Any] | None = None


class Listed(BaseModel):
    """A list of adapters."""

    data: list[Adapter]


@router.get("", responses=answers(Listed))
async def adapters(request: Request) -> Response:
    """List the adapters that the API key may use, with status and metadata."""
    return as_json({"data": [_shown(one) for one in Call.of(request).statuses()]})


@router.get("/{name}", responses=answers(Adapter))
async def adapter(name: str, request: Request) -> Response:
    """Show the status and metadata of an adapter."""
    return as_json(_shown(Call.of(request).status(name)))


def _shown(state: AdapterStatus) -> dict[str, Any]:
    """Returns the public status and metadata of an adapter, without paths."""
    shown = {
        "name": state.name,
        "state": state.state,
        "generation": state.generation,
        "reason": state.reason,
        "pinned": state.pinned,
        "in_flight": state.in_flight,
        "last_used": state.last_used,
        "bytes": state.bytes,
    }
    if state.bundle is None:
        return shown
    content = state.bundle.content
    methods = [part["method"] for part in content["parts"]]
    return {
        **shown,
        "sha256": content["files"]["adapter.safetensors"],
        "task": content["task"],
        "reads_words": tasks.find(content["task"]).per_word,
        "labels": content["labels"],
        "columns": content["columns"],
        "max_length": content["max_length"],
        "long_text": content["long_text"],
        "abstain_below": content["task_options"].get("abstain_below"),
        "methods": [method["name"] for method in methods],
        "options": [{key: value for key, value in method.items() if key != "name"} for method in methods],
        "metrics": content["metrics"],
    }
