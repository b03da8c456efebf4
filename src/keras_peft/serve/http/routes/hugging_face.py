"""Hugging Face's Inference API, for `huggingface_hub.InferenceClient(model=URL)`.

The URL is that of an adapter, `http://host:8000/adapters/NAME`, or of a server with a single
adapter.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from keras_peft.serve.failures import Invalid
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._document import answers, reads
from keras_peft.serve.http.routes._scores import Entity, Function, Score, entities, scores
from keras_peft.tasks import token_labels
from keras_peft.tasks.token_labels import OUTSIDE

router = APIRouter(tags=["Hugging Face"])


class Pair(BaseModel):
    """A text, or a pair of texts."""

    text: str
    text_pair: str | None = None

    def plain(self) -> str | list[str]:
        """Returns the text, or the pair as a list, as `Service.predict` expects it."""
        return self.text if self.text_pair is None else [self.text, self.text_pair]


class Parameters(BaseModel):
    """Format of the predictions."""

    function_to_apply: Function | None = None
    top_k: int | None = Field(default=None, ge=1)
    aggregation_strategy: Literal["none", "simple", "first", "average", "max"] | None = None
    ignore_labels: list[str] | None = None


class Body(BaseModel):
    """Texts to predict."""

    inputs: str | Pair | list[str | Pair] = Field(
        description='a text, {"text": …, "text_pair": …} for an adapter that reads pairs, or a list of these'
    )
    parameters: Parameters = Field(
        Parameters(),
        description='an object with any of "function_to_apply" ("softmax", "sigmoid" or "none"), "top_k" (at least 1), '
        '"aggregation_strategy" and "ignore_labels"',
    )


_ANSWERS = answers(
    list[list[Score]] | list[Entity] | list[list[Entity]],
    "The labels of each text, most probable first; for token classification, the entities.",
)


@router.post("/adapters/{name}", openapi_extra=reads(Body), responses=_ANSWERS)
async def predict_with(name: str, request: Request) -> Response:
    """Predict texts with an adapter, for `InferenceClient(model=URL)`."""
    return await _predict(Call.of(request), name)


@router.post("/", openapi_extra=reads(Body), responses=_ANSWERS)
async def predict(request: Request) -> Response:
    """Predict texts with the only adapter of the server, for `InferenceClient(model=URL)`."""
    call = Call.of(request)
    known = call.known()
    if len(known) != 1:
        raise Invalid(
            f"Name an adapter in the path, /adapters/NAME; the adapters are: {', '.join(known) or 'none'}."
        )
    return await _predict(call, known[0])


async def _predict(call: Call, name: str) -> Response:
    asked = call.read(Body)
    inputs = asked.inputs if isinstance(asked.inputs, list) else [asked.inputs]
    if not inputs:
        raise Invalid("`inputs` is empty; expected at least one text.")
    texts = [one if isinstance(one, str) else one.plain() for one in inputs]
    answered = (await call.predict([name], texts))[name]
    rows: Iterable[tuple[Any, Any, Any]] = zip(answered.predictions, answered.outputs, texts, strict=True)
    how = asked.parameters
    content: list[Any]
    if isinstance(answered.task, token_labels.Task):
        ignored = [OUTSIDE] if how.ignore_labels is None else how.ignore_labels
        grouped = how.aggregation_strategy != "none"
        content = [
            entities(answered.task, prediction, outputs, text, grouped=grouped, ignored=ignored)
            for prediction, outputs, text in rows
        ]
        return as_json(content if isinstance(asked.inputs, list) else content[0], call)
    content = [
        scores(answered.task, prediction, outputs, function=how.function_to_apply, top_k=how.top_k)
        for prediction, outputs, _ in rows
    ]
    # The client expects a list of one even for a single text.
    return as_json(content, call)
