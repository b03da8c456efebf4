"""OpenAPI descriptions of request bodies and responses."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


def reads(model: type[BaseModel], *, required: bool = True) -> dict[str, Any]:
    """Returns the OpenAPI description of a request body.

    Args:
        model: Pydantic model of the body.
        required: Whether a body is required.
    """
    content = {"application/json": {"schema": _inlined(model.model_json_schema())}}
    return {"requestBody": {"required": required, "content": content}}


def answers(model: Any, description: str = "The response.") -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI description of a JSON response.

    Args:
        model: Type of the response.
        description: Description of the response.
    """
    return {200: {"model": model, "description": description}}


def says(description: str) -> dict[int | str, dict[str, Any]]:
    """Returns the OpenAPI description of a plain-text response.

    Args:
        description: Description of the response.
    """
    return {200: {"content": {"text/plain": {}}, "description": description}}


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """Inlines the definitions of a schema, since OpenAPI keeps definitions elsewhere."""
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
