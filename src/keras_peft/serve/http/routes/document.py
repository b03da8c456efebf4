"""The OpenAPI document, and a documentation page without scripts."""

from __future__ import annotations

from typing import Any

import pydantic_core
from fastapi import APIRouter, Request, Response
from starlette.responses import HTMLResponse

from keras_peft.templating import environment

router = APIRouter(include_in_schema=False)


@router.get("/openapi.json")
async def document(request: Request) -> Response:
    """Show the OpenAPI document."""
    return Response(pydantic_core.to_json(request.app.openapi()), media_type="application/json")


@router.get("/docs")
async def docs(request: Request) -> Response:
    """Show the API documentation."""
    described = request.app.openapi()
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            by_tag.setdefault(operation["tags"][0], []).append((method.upper(), path, operation))
    page = environment().get_template("openapi.html").render(info=described["info"], by_tag=by_tag)
    return HTMLResponse(
        page, headers={"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
    )
