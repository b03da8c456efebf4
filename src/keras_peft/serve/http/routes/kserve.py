"""The Open Inference Protocol of KServe and Triton.

See https://github.com/kserve/open-inference-protocol, and `_tensors.py` for the inputs and outputs.
The version of an adapter is its generation. Requests may use JSON or Triton's binary format;
responses are JSON.
"""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from keras_peft._version import __version__
from keras_peft.errors import listed
from keras_peft.serve.failures import Invalid, Malformed, NotReady
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.limits import PARTED
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._document import answers, reads
from keras_peft.serve.http.routes._tensors import (
    Input,
    Tensor,
    inputs_of,
    outputs_of,
    read_tensors,
    write_tensors,
)

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])


class Output(BaseModel):
    """A requested output tensor."""

    name: str


class InferBody(BaseModel):
    """Texts to predict."""

    id: str | None = Field(None, description="a string, or null", max_length=128)
    inputs: list[Input] = Field(
        description=(
            "tensors `text` and, for pairs, `text_pair`: "
            '{"name": "text", "shape": [n], "datatype": "BYTES", "data": […]}'
        )
    )
    outputs: list[Output] | None = Field(
        None, description='the tensors to return, such as [{"name": "label"}]'
    )


class Inferred(BaseModel):
    """Predictions as tensors."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


@router.get("")
async def server(request: Request) -> Response:
    """Show the name, version and extensions of the server."""
    extensions = ["model_configuration", "model_repository", "statistics"]
    return as_json({"name": "keras-peft", "version": __version__, "extensions": extensions})


@router.get("/models/{name}")
async def model(name: str, request: Request) -> Response:
    """Show the inputs and outputs of an adapter, which is loaded if necessary."""
    return await _model(Call.of(request), name)


@router.get("/models/{name}/versions/{version}")
async def model_version(name: str, version: str, request: Request) -> Response:
    """Show the inputs and outputs of a version of an adapter."""
    return await _model(Call.of(request), name, version)


async def _model(call: Call, name: str, version: str | None = None) -> Response:
    loaded = await call.adapter(name, version)
    content = {
        "name": name,
        "versions": [str(loaded.generation)],
        "platform": "keras_peft",
        "inputs": inputs_of(loaded),
        "outputs": outputs_of(loaded.task),
        "parameters": {"task": loaded.task.name, "labels": list(loaded.task.labels)},
    }
    return as_json(content)


@router.get("/models/{name}/ready")
async def ready(name: str, request: Request) -> Response:
    """Report whether an adapter is loaded."""
    return _ready(Call.of(request), name)


@router.get("/models/{name}/versions/{version}/ready")
async def version_ready(name: str, version: str, request: Request) -> Response:
    """Report whether a version of an adapter is loaded."""
    return _ready(Call.of(request), name, version)


def _ready(call: Call, name: str, version: str | None = None) -> Response:
    status = call.status(name)
    if status.state != "READY":
        raise status.unavailable() or NotReady(f"The adapter {name!r} is {status.state}.")
    call.check_version(name, version, status.generation)
    return as_json({"name": name, "ready": True})


@router.post("/models/{name}/infer", openapi_extra=reads(InferBody), responses=answers(Inferred))
async def infer(name: str, request: Request) -> Response:
    """Predict texts with an adapter."""
    return await _infer(Call.of(request), name)


@router.post(
    "/models/{name}/versions/{version}/infer", openapi_extra=reads(InferBody), responses=answers(Inferred)
)
async def infer_with_version(name: str, version: str, request: Request) -> Response:
    """Predict texts with a version of an adapter."""
    return await _infer(Call.of(request), name, version)


async def _infer(call: Call, name: str, version: str | None = None) -> Response:
    header = _header_length(call)
    asked = call.read(InferBody, call.body[:header])
    texts = read_tensors(asked.inputs, call.body[header:])
    own = (await call.predict([name], texts, version=version))[name]
    tensors = write_tensors(own.task, own.predictions, own.outputs)
    wanted = list(tensors) if not asked.outputs else [one.name for one in asked.outputs]
    if not set(wanted) <= set(tensors):
        raise Invalid(f"`outputs`: the tensors of the adapter {name!r} are {listed(tensors)}.")
    content = {
        "model_name": name,
        "model_version": str(own.generation),
        "outputs": [tensors[one] for one in wanted],
    }
    return as_json(content if asked.id is None else {**content, "id": asked.id}, call)


def _header_length(call: Call) -> int:
    """Returns the length of the JSON at the start of the body, in bytes."""
    length = call.headers.get(PARTED)
    if length is None:
        return len(call.body)
    if not length.isdigit() or int(length) > len(call.body):
        raise Malformed(
            "Inference-Header-Content-Length must be an integer up to the size of the body, "
            f"{len(call.body)} bytes."
        )
    return int(length)
