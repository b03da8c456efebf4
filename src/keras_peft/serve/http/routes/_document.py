"""Bodies that the routes read themselves, as the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from typing_extensions import TypedDict


class Refusal(TypedDict):
    """What is answered where something is not done: why, for people and for programs."""

    error: str
    error_type: str


def reads(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Returns what the document says of a route with a body.

    Args:
        model: What the body has to be.
        required: Whether there has to be one.
    """
    content = {"application/json": {"schema": _inlined(model.model_json_schema())}}
    return {"requestBody": {"required": required, "content": content}}


def answers(model: Any, description: str = "The answer.") -> dict[int | str, dict[str, Any]]:
    """Returns what the document says of a route's answers."""
    return {200: {"model": model, "description": description}}


def says(description: str) -> dict[int | str, dict[str, Any]]:
    """Returns what the document says of a route that answers with plain text."""
    return {200: {"content": {"text/plain": {}}, "description": description}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Puts definitions where they are referred to, since the document has its own place for them."""
    definitions = schema.pop("$defs", {})

    def put(value: Any) -> Any:
        if isinstance(value, list):
            return [put(one) for one in value]
        if not isinstance(value, dict):
            return value
        if name := value.get("$ref", "").removeprefix("#/$defs/"):
            return put({**definitions[name], **{key: one for key, one in value.items() if key != "$ref"}})
        return {key: put(one) for key, one in value.items()}

    inlined: dict[str, Any] = put(schema)
    return inlined
