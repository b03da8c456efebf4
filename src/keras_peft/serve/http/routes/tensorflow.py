"""TensorFlow Serving's REST API, as in Vertex AI and MLflow: instances in, predictions out.

See https://www.tensorflow.org/tfx/serving/api_rest. The version of an adapter is its generation.
OpenAI has a route for `GET /v1/models/{name}` too; it is in `openai.py`, with `version_status`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from keras_peft.serve.failures import Invalid
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._document import answers, reads
from keras_peft.serve.http.routes._scores import VALUE, described, probabilities, scores
from keras_peft.serve.http.routes._tensors import inputs_of
from keras_peft.serve.http.routes.hugging_face import Pair
from keras_peft.tasks import Task, multi_label, regression, token_labels

if TYPE_CHECKING:
    from keras_peft.serve.adapter_record import AdapterStatus
    from keras_peft.serve.result import AdapterResult

router = APIRouter(tags=["TensorFlow Serving"])

_STATES = {"READY": "AVAILABLE", "LOADING": "LOADING", "DRAINING": "UNLOADING", "UNLOADED": "START"}
_SIGNATURE = "serving_default"


class _Signed(BaseModel):
    signature_name: Literal["serving_default", ""] | None = Field(
        None, description=f'"{_SIGNATURE}", or null; an adapter has no other signatures'
    )


class InstancesBody(_Signed):
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


class ExamplesBody(_Signed):
    """Texts to classify."""

    examples: list[Pair] = Field(description='a list of {"text": …} or of {"text": …, "text_pair": …}')
    context: None = Field(None, description="null; repeat common features in each example")


class Classes(BaseModel):
    """Pairs of label and score for each example, highest first."""

    result: list[list[list[str | float]]]


class Numbers(BaseModel):
    """Predicted number for each example."""

    result: list[float]


class VersionStatus(BaseModel):
    """State of a version: AVAILABLE, LOADING, UNLOADING, or START if a request loads it."""

    version: str
    state: str
    status: dict[str, str]


class ModelStatus(BaseModel):
    """State of the only version of an adapter."""

    model_version_status: list[VersionStatus]


def version_status(status: AdapterStatus) -> list[dict[str, Any]]:
    """Returns the state of the only version of an adapter, in TensorFlow Serving's format.

    Args:
        status: Status of the adapter, which is available.
    """
    return [
        {
            "version": str(_version(status)),
            "state": _STATES[status.state],
            "status": {"error_code": "OK", "error_message": ""},
        }
    ]


def _version(status: AdapterStatus) -> int:
    """Returns the generation that answers, or that will answer after the next load."""
    return status.generation + (status.state in ("UNLOADED", "LOADING"))


@router.get("/v1/models/{name}/versions/{version}", responses=answers(ModelStatus))
async def status_of_version(name: str, version: str, request: Request) -> Response:
    """Show the state of a version of an adapter."""
    call = Call.of(request)
    status = call.status(name)
    if (failure := status.unavailable()) is not None:
        raise failure
    call.check_version(name, version, _version(status))
    return as_json({"model_version_status": version_status(status)})


@router.get("/v1/models/{name}/metadata")
async def metadata(name: str, request: Request) -> Response:
    """Show the inputs and outputs of an adapter, which is loaded if necessary."""
    return await _metadata(Call.of(request), name)


@router.get("/v1/models/{name}/versions/{version}/metadata")
async def version_metadata(name: str, version: str, request: Request) -> Response:
    """Show the inputs and outputs of a version of an adapter."""
    return await _metadata(Call.of(request), name, version)


async def _metadata(call: Call, name: str, version: str | None = None) -> Response:
    loaded = await call.adapter(name, version)
    signature = {
        "inputs": {one["name"]: _tensor(one["name"], "DT_STRING", -1) for one in inputs_of(loaded)},
        "outputs": _outputs(loaded.task),
        "method_name": "tensorflow/serving/predict",
    }
    content = {
        "model_spec": {"name": name, "signature_name": "", "version": str(loaded.generation)},
        "metadata": {"signature_def": {"signature_def": {_SIGNATURE: signature}}},
    }
    return as_json(content)


def _outputs(task: Task) -> dict[str, Any]:
    """Returns the fields of a prediction that a task fills."""
    if isinstance(task, regression.Task):
        return {VALUE: _tensor(VALUE, "DT_FLOAT", -1)}
    if isinstance(task, token_labels.Task):
        return {name: _tensor(name, "DT_STRING", -1, -1) for name in ("tokens", "tags")}
    found = {
        "label": _tensor("label", "DT_STRING", -1),
        "score": _tensor("score", "DT_FLOAT", -1),
        "probs": _tensor("probs", "DT_FLOAT", -1, len(task.labels)),
    }
    if isinstance(task, multi_label.Task):
        found["labels"] = _tensor("labels", "DT_STRING", -1, -1)
    return found


def _tensor(name: str, kind: str, *sizes: int) -> dict[str, Any]:
    shape = {"dim": [{"size": str(size), "name": ""} for size in sizes], "unknown_rank": False}
    return {"dtype": kind, "tensor_shape": shape, "name": name}


@router.post("/v1/models/{name}:predict", openapi_extra=reads(InstancesBody), responses=answers(Predictions))
async def predict(name: str, request: Request) -> Response:
    """Predict texts with an adapter."""
    return await _predict(Call.of(request), name)


@router.post(
    "/v1/models/{name}/versions/{version}:predict",
    openapi_extra=reads(InstancesBody),
    responses=answers(Predictions),
)
async def predict_with_version(name: str, version: str, request: Request) -> Response:
    """Predict texts with a version of an adapter."""
    return await _predict(Call.of(request), name, version)


async def _predict(call: Call, name: str, version: str | None = None) -> Response:
    asked = call.read(InstancesBody)
    if not asked.instances:
        raise Invalid("`instances` is empty; expected at least one text.")
    texts = [one.plain() if isinstance(one, Pair) else one for one in asked.instances]
    own = (await call.predict([name], texts, version=version))[name]
    predictions = []
    said: Iterable[tuple[Any, Any]] = zip(own.predictions, own.outputs, strict=True)
    for prediction, outputs in said:
        known = described(prediction)
        score = prediction.probabilities[known["label"]] if known["label"] is not None else None
        predictions.append({**known, "score": score, "probs": probabilities(own.task, prediction, outputs)})
    return as_json({"predictions": predictions}, call)


@router.post("/v1/models/{name}:classify", openapi_extra=reads(ExamplesBody), responses=answers(Classes))
async def classify(name: str, request: Request) -> Response:
    """Predict the labels of texts, with their scores."""
    return await _classify(Call.of(request), name)


@router.post(
    "/v1/models/{name}/versions/{version}:classify",
    openapi_extra=reads(ExamplesBody),
    responses=answers(Classes),
)
async def classify_with_version(name: str, version: str, request: Request) -> Response:
    """Predict the labels of texts with a version of an adapter."""
    return await _classify(Call.of(request), name, version)


async def _classify(call: Call, name: str, version: str | None = None) -> Response:
    own = await _examples(call, name, version)
    if isinstance(own.task, regression.Task | token_labels.Task):
        other = ":regress" if isinstance(own.task, regression.Task) else ":predict"
        raise Invalid(f"The adapter {name!r} does not predict a label for a text; use {other}.")
    rows = zip(own.predictions, own.outputs, strict=True)
    result = [
        [[one["label"], one["score"]] for one in scores(own.task, prediction, outputs)]
        for prediction, outputs in rows
    ]
    return as_json({"result": result}, call)


@router.post("/v1/models/{name}:regress", openapi_extra=reads(ExamplesBody), responses=answers(Numbers))
async def regress(name: str, request: Request) -> Response:
    """Predict a number for each text."""
    return await _regress(Call.of(request), name)


@router.post(
    "/v1/models/{name}/versions/{version}:regress",
    openapi_extra=reads(ExamplesBody),
    responses=answers(Numbers),
)
async def regress_with_version(name: str, version: str, request: Request) -> Response:
    """Predict a number for each text with a version of an adapter."""
    return await _regress(Call.of(request), name, version)


async def _regress(call: Call, name: str, version: str | None = None) -> Response:
    own = await _examples(call, name, version)
    if not isinstance(own.task, regression.Task):
        raise Invalid(f"The adapter {name!r} does not predict a number; use :predict.")
    predictions: Iterable[Any] = own.predictions
    return as_json({"result": [one.value for one in predictions]}, call)


async def _examples(call: Call, name: str, version: str | None) -> AdapterResult:
    """Predicts the texts of a request for `:classify` or `:regress`."""
    asked = call.read(ExamplesBody)
    if not asked.examples:
        raise Invalid("`examples` is empty; expected at least one text.")
    texts = [one.plain() for one in asked.examples]
    return (await call.predict([name], texts, version=version))[name]
