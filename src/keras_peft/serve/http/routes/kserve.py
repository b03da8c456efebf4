"""The Open Inference Protocol of KServe and Triton.

See https://github.com/kserve/open-inference-protocol. The inputs are the BYTES tensors `text` and,
for pairs, `text_pair`. The outputs are `label`, BYTES, and `probs`, FP32, with the labels in the
order of the model metadata; for a regression, `value`, FP32. Requests may use JSON or Triton's
binary format; responses are JSON.
"""

from __future__ import annotations

import struct
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from keras_peft._version import __version__
from keras_peft.errors import listed
from keras_peft.serve.failures import Invalid, Malformed, NotReady
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.limits import PARTED
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._document import answers, reads
from keras_peft.serve.http.routes._scores import VALUE, described, probabilities
from keras_peft.tasks import Task, multi_label, regression, token_labels

router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"])

_TEXTS = ("text", "text_pair")


class InputParameters(BaseModel):
    """Size of a binary tensor, in bytes."""

    binary_data_size: int | None = Field(default=None, ge=0)


class Input(BaseModel):
    """A tensor of texts."""

    name: str
    shape: list[int]
    datatype: Literal["BYTES"]
    data: list[str] | list[list[str]] | None = None
    parameters: InputParameters | None = None


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


class Tensor(BaseModel):
    """An output tensor."""

    name: str
    datatype: str
    shape: list[int]
    data: list[str] | list[float]


class Inferred(BaseModel):
    """Predictions for all texts."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


@router.get("")
async def server() -> Response:
    """Show the name, version and extensions of the server."""
    return as_json({"name": "keras-peft", "version": __version__, "extensions": ["model_repository"]})


@router.get("/models/{name}")
async def model(name: str, request: Request) -> Response:
    """Show the inputs and outputs of an adapter, which is loaded if necessary."""
    loaded = await Call.of(request).adapter(name)
    task = loaded.task
    content = {
        "name": name,
        "versions": [str(loaded.generation)],
        "platform": "keras_peft",
        "inputs": [
            {"name": text, "datatype": "BYTES", "shape": [-1]}
            for text in _TEXTS[: loaded.bundle.texts_per_row]
        ],
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
            {"name": "probs", "datatype": "FP32", "shape": [-1, len(task.labels)]},
        ],
        "parameters": {"task": task.name, "labels": list(task.labels)},
    }
    if isinstance(task, regression.Task):
        content["outputs"] = [{"name": VALUE, "datatype": "FP32", "shape": [-1]}]
    elif isinstance(task, token_labels.Task):
        content["outputs"] = [{"name": "label", "datatype": "BYTES", "shape": [-1]}]
    return as_json(content)


@router.get("/models/{name}/ready")
async def ready(name: str, request: Request) -> Response:
    """Report whether an adapter is loaded."""
    call = Call.of(request)
    status = call.status(name)
    if status.state != "READY":
        raise status.unavailable() or NotReady(f"The adapter {name!r} is {status.state}.")
    return as_json({"name": name, "ready": True})


@router.post("/models/{name}/infer", openapi_extra=reads(InferBody), responses=answers(Inferred))
async def infer(name: str, request: Request) -> Response:
    """Predict texts with an adapter."""
    call = Call.of(request)
    header = _header_length(call)
    asked = call.read(InferBody, call.body[:header])
    columns, at = {}, header
    for one in asked.inputs:
        size = (one.parameters.binary_data_size if one.parameters else None) or 0
        columns[one.name] = _column(one, call.body[at : at + size])
        at += size
    if "text" not in columns or not set(columns) <= set(_TEXTS):
        raise Invalid(
            f"`inputs`: expected the tensors text and, for pairs, text_pair; got {len(columns)} "
            "tensors with other names."
        )
    if len({len(column) for column in columns.values()}) > 1:
        raise Invalid("`inputs`: text and text_pair have different numbers of texts.")
    if not columns["text"]:
        raise Invalid("`inputs` is empty; expected at least one text.")
    texts: list[Any] = columns["text"]
    if "text_pair" in columns:
        texts = [list(pair) for pair in zip(columns["text"], columns["text_pair"], strict=True)]
    own = (await call.predict([name], texts))[name]
    tensors = {one["name"]: one for one in _tensors(own.task, own.predictions, own.outputs)}
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


def _column(tensor: Input, binary: bytes | bytearray) -> list[str]:
    """Returns the texts of a tensor, flattened."""
    if tensor.data is None:
        texts = _unpacked(binary)
    else:
        texts = [text for one in tensor.data for text in ([one] if isinstance(one, str) else one)]
    size = 1
    for length in tensor.shape:
        size *= length
    if size != len(texts):
        raise Invalid(
            f"`inputs`: the shape {tensor.shape} of a tensor does not match the number of its texts, {len(texts)}."
        )
    return texts


def _unpacked(binary: bytes | bytearray) -> list[str]:
    """Decodes texts that are each preceded by their length in bytes, as 4-byte little-endian integers."""
    texts, at = [], 0
    try:
        while at < len(binary):
            (size,) = struct.unpack_from("<I", binary, at)
            at += 4 + size
            if at > len(binary):
                raise ValueError
            texts.append(binary[at - size : at].decode())
    except (struct.error, ValueError):
        raise Invalid(
            "`inputs`: the binary data of a tensor is invalid; expected UTF-8 texts, each preceded "
            "by its length."
        ) from None
    return texts


def _tensors(task: Task, predictions: Any, outputs: Any) -> list[dict[str, Any]]:
    count = len(predictions)
    if isinstance(task, regression.Task):
        return [_tensor(VALUE, "FP32", [count], [prediction.value for prediction in predictions])]
    if isinstance(task, token_labels.Task):
        return [_tensor("label", "BYTES", [count], [" ".join(one.tags) for one in predictions])]
    if isinstance(task, multi_label.Task):
        labels = ["|".join(one.labels) for one in predictions]
    else:
        # A BYTES tensor cannot hold null.
        labels = [described(one)["label"] or "" for one in predictions]
    rows = zip(predictions, outputs, strict=True)
    probs = [value for prediction, row in rows for value in probabilities(task, prediction, row)]
    return [
        _tensor("label", "BYTES", [count], labels),
        _tensor("probs", "FP32", [count, len(task.labels)], probs),
    ]


def _tensor(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}
