"""Text Embeddings Inference: https://huggingface.github.io/text-embeddings-inference."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from keras_peft._version import __version__
from keras_peft.serve.failures import Invalid
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._document import answers, reads
from keras_peft.serve.http.routes._scores import Entity, Function, Score, written

router = APIRouter(tags=["Text Embeddings Inference"])

Inputs = str | list[str] | list[list[str]]
_INPUTS = (
    "a text, a pair [text, text] for an adapter that reads pairs, or a batch with a list for "
    "each text: [[text], [text]] or [[text, text], [text, text]]"
)


class PredictBody(BaseModel):
    """Texts to predict, and the format of the predictions."""

    inputs: Inputs = Field(description=_INPUTS)
    adapter_id: str | list[str] | None = Field(
        None,
        description="the name of an adapter or a list of names; optional if the server has one adapter",
    )
    truncate: bool = Field(
        True, description="true or false: whether long texts are truncated as in training, or refused"
    )
    truncation_direction: Literal["right", "Right", "left", "Left"] = Field(
        "right", description='"right"; texts are only truncated on the right'
    )
    raw_scores: bool = Field(
        False, description="true for the raw outputs of the head, false for probabilities"
    )
    top_k: int | None = Field(
        None, ge=1, description="the maximum number of labels, at least 1, or null for all"
    )


Scores = list[Score] | list[Entity]


@router.post(
    "/predict",
    openapi_extra=reads(PredictBody),
    responses=answers(
        Scores | list[Scores] | dict[str, Scores] | dict[str, list[Scores]],
        "For a text, its labels, most probable first; for a batch, a list of such lists; for a "
        "list of adapters, an object with one of these per adapter.",
    ),
)
async def predict(request: Request) -> Response:
    """Predict texts with one or more adapters."""
    call = Call.of(request)
    asked = call.read(PredictBody)
    if asked.truncation_direction.lower() != "right":
        raise Invalid('`truncation_direction`: expected "right"; texts are only truncated on the right.')
    names = call.names(asked.adapter_id, "adapter_id")
    texts, is_batch = await _texts(call, asked.inputs, names)
    answered = await call.predict(names, texts, truncate=asked.truncate)
    function: Function | None = "none" if asked.raw_scores else None
    content: dict[str, Any] = {}
    for name in names:
        own = answered[name]
        found = [
            written(own.task, prediction, outputs, text, function=function, top_k=asked.top_k)
            for prediction, outputs, text in zip(own.predictions, own.outputs, texts, strict=True)
        ]
        content[name] = found if is_batch else found[0]
    return as_json(content if isinstance(asked.adapter_id, list) else content[names[0]], call)


async def _texts(call: Call, inputs: Inputs, names: list[str]) -> tuple[list[Any], bool]:
    """Parses the inputs. A list of strings is one pair, not a batch.

    Returns:
        The texts, and whether they are a batch.

    Raises:
        Invalid: If a list of strings is sent to an adapter that reads one text at a time.
    """
    if isinstance(inputs, str):
        return [inputs], False
    if not inputs:
        raise Invalid(f"`inputs` is empty; expected {_INPUTS}.")
    if isinstance(inputs[0], list):
        return [one[0] if len(one) == 1 else one for one in inputs], True
    if len(inputs) == 1:
        return [inputs[0]], False
    for name in names:
        loaded = await call.adapter(name)
        if loaded.bundle.texts_per_row == 1 and not loaded.task.per_word:
            raise Invalid(
                f"`inputs` is a list of {len(inputs)} strings, which is one pair, but the adapter "
                f"{name!r} reads one text at a time; to send a batch, wrap each text in a list: [[…], "
                "[…]]."
            )
    return [inputs], False


class TokenizeBody(BaseModel):
    """Texts to tokenize."""

    inputs: str | list[str] = Field(description="a text or a list of texts")


class Token(BaseModel):
    """A token and its character offsets; both are null for special tokens."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


@router.post("/tokenize", openapi_extra=reads(TokenizeBody), responses=answers(list[list[Token]]))
async def tokenize(request: Request) -> Response:
    """Tokenize texts."""
    call = Call.of(request)
    asked = call.read(TokenizeBody)
    texts = [asked.inputs] if isinstance(asked.inputs, str) else asked.inputs
    return as_json(await call.context.service.tokenize(texts))


class Info(BaseModel):
    """The base model, the limits and the adapters of the server."""

    model_id: str
    model_sha: str
    model_dtype: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int
    max_client_batch_size: int
    max_body_bytes: int
    max_text_chars: int
    auto_truncate: bool
    version: str
    architecture: str
    adapters: list[str]


@router.get("/info", responses=answers(Info))
async def info(request: Request) -> Response:
    """Show the base model, the limits and the adapters of the server."""
    call = Call.of(request)
    context, base = call.context, call.context.service.engine.base
    settings = context.settings
    content = Info(
        model_id=context.base_name,
        model_sha=base.sha256,
        model_dtype="float32",
        model_type={"classifier": {"adapters": len(call.available())}},
        max_concurrent_requests=settings.max_queue,
        max_input_length=base.max_length,
        max_batch_tokens=settings.max_batch_tokens,
        max_batch_requests=settings.max_batch_rows,
        max_client_batch_size=settings.max_texts,
        max_body_bytes=settings.max_body_bytes,
        max_text_chars=settings.max_text_chars,
        auto_truncate=True,
        version=__version__,
        architecture=base.architecture,
        adapters=call.available(),
    )
    return as_json(content)
