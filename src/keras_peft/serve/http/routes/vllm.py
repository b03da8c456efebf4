"""Loading and unloading as in vLLM, for existing tools."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.responses import PlainTextResponse

from keras_peft.serve.failures import Invalid
from keras_peft.serve.http.call import Call
from keras_peft.serve.http.error_formats import OPENAI
from keras_peft.serve.http.routes._document import reads, says

control = APIRouter(prefix="/v1", tags=["vLLM"], responses=OPENAI.responses)


class AdapterBody(BaseModel):
    """Name of an adapter."""

    lora_name: str = Field(description="the name of an adapter in the server's folder")
    lora_path: str | None = Field(None, description="the same name, or null; paths are not supported")


@control.post(
    "/load_lora_adapter",
    openapi_extra=reads(AdapterBody),
    response_class=Response,
    responses=says("Confirmation."),
)
async def load(request: Request) -> Response:
    """Load or reload an adapter by name."""
    call, name = _asked(request)
    await call.context.load(name)
    call.adapters = [name]
    return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")


@control.post(
    "/unload_lora_adapter",
    openapi_extra=reads(AdapterBody),
    response_class=Response,
    responses=says("Confirmation."),
)
async def unload(request: Request) -> Response:
    """Unload an adapter by name."""
    call, name = _asked(request)
    await call.context.unload(name)
    call.adapters = [name]
    return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")


def _asked(request: Request) -> tuple[Call, str]:
    call = Call.of(request)
    call.need_admin()
    asked = call.read(AdapterBody)
    if asked.lora_path not in (None, asked.lora_name):
        raise Invalid(
            "`lora_path`: paths are not supported; put the bundle into the server's folder and send "
            "only its name."
        )
    call.check(asked.lora_name)
    return call, asked.lora_name
