"""OpenAI's conventions with vLLM's responses.

An adapter is a `model`, and a list of inputs is always a batch.
"""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from keras_peft.serve.failures import Invalid
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.error_formats import OPENAI
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._document import answers, reads
from keras_peft.serve.http.routes._scores import described, probabilities
from keras_peft.serve.http.routes.tensorflow import VersionStatus, version_status

router = APIRouter(tags=["OpenAI"], responses=OPENAI.responses)


class ClassifyBody(BaseModel):
    """Texts to predict."""

    model: str | list[str] | None = Field(
        None,
        description="the name of an adapter or a list of names; optional if the server has one adapter",
    )
    input: str | list[str] | list[list[str]] = Field(
        description=(
            "a text or a list of texts; for an adapter that reads pairs, a list of pairs, [[text, "
            "text]]; for token classification, texts or lists of words"
        )
    )
    use_activation: bool = Field(
        True, description="true for probabilities, false for the raw outputs of the head"
    )
    truncate: bool = Field(
        True, description="true or false: whether long texts are truncated as in training, or refused"
    )


class Datum(BaseModel):
    """Prediction for one text.

    `label` is null if the adapter abstains. Depending on the task there are further fields:
    `labels`, `value`, or `tokens`, `tags` and `entities`.
    """

    index: int
    label: str | None
    probs: list[float]
    num_classes: int


class Usage(BaseModel):
    """Number of tokens processed."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Classified(BaseModel):
    """Predictions for all texts. `classes` are the labels in the order of `probs`."""

    id: str
    object: str
    created: int
    model: str
    classes: list[str]
    data: list[Datum]
    usage: Usage


@router.post(
    "/v1/classify",
    openapi_extra=reads(ClassifyBody),
    responses=answers(
        Classified | dict[str, Classified],
        "For a list of models, an object with one such response per model.",
    ),
)
async def classify(request: Request) -> Response:
    """Predict texts with one or more adapters."""
    call = Call.of(request)
    asked = call.read(ClassifyBody)
    names = call.names(asked.model, "model")
    texts: list[Any] = [asked.input] if isinstance(asked.input, str) else list(asked.input)
    if not texts:
        raise Invalid("`input` is empty; expected at least one text.", field="input")
    answered = await call.predict(names, texts, truncate=asked.truncate)
    usage = {
        "prompt_tokens": answered.tokens,
        "completion_tokens": 0,
        "total_tokens": answered.tokens,
    }
    content = {}
    for name in names:
        own = answered[name]
        rows = enumerate(zip(own.predictions, own.outputs, strict=True))
        content[name] = {
            "id": f"classify-{call.id}",
            "object": "list",
            "created": int(time.time()),
            "model": name,
            "classes": list(own.task.labels),
            "data": [
                {
                    "index": index,
                    "probs": probabilities(own.task, prediction, outputs, raw=not asked.use_activation),
                    "num_classes": len(own.task.labels),
                    **described(prediction),
                }
                for index, (prediction, outputs) in rows
            ],
            "usage": usage,
        }
    return as_json(content if isinstance(asked.model, list) else content[names[0]], call)


class Model(BaseModel):
    """The base model, or an adapter for it."""

    id: str
    object: str
    created: int
    owned_by: str
    root: str
    parent: str | None


class ModelOfTwoProtocols(Model):
    """A model in OpenAI's format, and of an adapter also in TensorFlow Serving's."""

    model_version_status: list[VersionStatus] | None = None


class Models(BaseModel):
    """The base model and its adapters."""

    object: str
    data: list[Model]


@router.get("/v1/models", responses=answers(Models))
async def models(request: Request) -> Response:
    """List the base model and the available adapters that the API key may use."""
    call = Call.of(request)
    adapters = (_adapter(call, name) for name in call.available())
    content = [_model(call, call.context.base_name, None), *adapters]
    return as_json({"object": "list", "data": content})


# The name of the base model may contain slashes.
@router.get("/v1/models/{name:path}", responses=answers(ModelOfTwoProtocols))
async def model(name: str, request: Request) -> Response:
    """Show the base model or an adapter, also for TensorFlow Serving's clients."""
    call = Call.of(request)
    if name == call.context.base_name:
        return as_json(_model(call, name, None))
    status = call.status(name)
    if (failure := status.unavailable()) is not None:
        raise failure
    return as_json({**_adapter(call, name), "model_version_status": version_status(status)})


def _adapter(call: Call, name: str) -> dict[str, Any]:
    return _model(call, name, call.context.base_name)


def _model(call: Call, name: str, parent: str | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": int(call.context.started),
        "owned_by": "keras-peft",
        "root": name,
        "parent": parent,
    }
