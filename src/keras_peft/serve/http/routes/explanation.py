"""Explanations of predictions, word by word."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from keras_peft.explanation import UNIT
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._document import answers, reads

router = APIRouter(tags=["Explanation"])


class ExplainBody(BaseModel):
    """Text and label to explain."""

    model: str | None = Field(
        None, description="the name of an adapter; optional if the server has one adapter"
    )
    input: str | list[str] = Field(
        description="a text, or a list of two, [text, text], for an adapter that reads pairs"
    )
    label: str | None = Field(None, description="the label to explain, or null for the most probable one")


class Explained(BaseModel):
    """The words of a text with their weights. Offsets are in characters.

    The `weight` of a word is the decrease of the label's log-odds when that word alone is left out;
    `without` is the label's probability in that case. Both are null for words that were truncated.
    """

    unit: str
    text: str | list[str]
    label: str
    probability: float
    probabilities: dict[str, float]
    words: list[dict[str, Any]]
    run_length: int
    abstain_below: float | None


@router.post("/v1/explain", openapi_extra=reads(ExplainBody), responses=answers(Explained))
async def explain(request: Request) -> Response:
    """Show which words of a text led to a prediction."""
    call = Call.of(request)
    asked = call.read(ExplainBody)
    (name,) = call.names(asked.model, "model")
    explanation = await call.explain(name, asked.input, asked.label)
    return as_json({"unit": UNIT, **explanation.to_json()})
