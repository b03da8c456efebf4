"""TensorFlow Serving's predict API, as in Vertex AI and MLflow: instances in, predictions out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from keras_peft.serve.failures import Invalid
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._document import answers, reads
from keras_peft.serve.http.routes._scores import described, probabilities
from keras_peft.serve.http.routes.hugging_face import Pair

router = APIRouter(tags=["TensorFlow Serving"])


class InstancesBody(BaseModel):
    """Texts to predict."""

    instances: list[str | list[str] | Pair] = Field(
        description='a list of texts, of {"text": …}, or of pairs: [text, text] or {"text": …, "text_pair": …}'
    )


class TextPrediction(BaseModel):
    """Prediction for one text; `label` is null if the adapter abstains."""

    label: str | None
    score: float | None
    probs: list[float]


class Predictions(BaseModel):
    """Predictions, one per instance."""

    predictions: list[TextPrediction]


@router.post("/v1/models/{name}:predict", openapi_extra=reads(InstancesBody), responses=answers(Predictions))
async def predict(name: str, request: Request) -> Response:
    """Predict texts with an adapter."""
    call = Call.of(request)
    asked = call.read(InstancesBody)
    if not asked.instances:
        raise Invalid("`instances` is empty; expected at least one text.")
    texts = [one.plain() if isinstance(one, Pair) else one for one in asked.instances]
    own = (await call.predict([name], texts))[name]
    predictions = []
    said: Iterable[tuple[Any, Any]] = zip(own.predictions, own.outputs, strict=True)
    for prediction, outputs in said:
        known = described(prediction)
        score = prediction.probabilities[known["label"]] if known["label"] is not None else None
        predictions.append({**known, "score": score, "probs": probabilities(own.task, prediction, outputs)})
    return as_json({"predictions": predictions}, call)
