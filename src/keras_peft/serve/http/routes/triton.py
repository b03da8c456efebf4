"""Triton's extensions of the Open Inference Protocol: model configuration and statistics.

See https://github.com/triton-inference-server/server/tree/main/docs/protocol. `repository.py` has the
extension that loads and unloads models.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from keras_peft.serve.http.call import Call
from keras_peft.serve.http.responses import as_json
from keras_peft.serve.http.routes._tensors import inputs_of, outputs_of

if TYPE_CHECKING:
    from keras_peft.serve.loaded_adapter import LoadedAdapter
    from keras_peft.serve.statistics import Total

router = APIRouter(prefix="/v2/models", tags=["Triton"])

_TYPES = {"BYTES": "TYPE_STRING", "FP32": "TYPE_FP32"}


@router.get("/{name}/config")
async def config(name: str, request: Request) -> Response:
    """Show the configuration of an adapter, which is loaded if necessary."""
    return as_json(_config(await Call.of(request).adapter(name)))


@router.get("/{name}/versions/{version}/config")
async def version_config(name: str, version: str, request: Request) -> Response:
    """Show the configuration of a version of an adapter."""
    return as_json(_config(await Call.of(request).adapter(name, version)))


def _config(loaded: LoadedAdapter) -> dict[str, Any]:
    def shown(tensors: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"name": one["name"], "data_type": _TYPES[one["datatype"]], "dims": one["shape"]}
            for one in tensors
        ]

    task = loaded.task
    parameters = {"task": task.name, "labels": json.dumps(list(task.labels), ensure_ascii=False)}
    return {
        "name": loaded.name,
        "platform": "keras_peft",
        "backend": "keras_peft",
        "version_policy": {"latest": {"num_versions": 1}},
        # The shapes include the number of texts; a request may have as many as the server allows.
        "max_batch_size": 0,
        "input": shown(inputs_of(loaded)),
        "output": shown(outputs_of(task)),
        "parameters": {key: {"string_value": value} for key, value in parameters.items()},
    }


@router.get("/stats")
async def all_stats(request: Request) -> Response:
    """Show the statistics of the loaded adapters."""
    call = Call.of(request)
    adapters = [call.context.service.adapters.loaded(one.name) for one in call.statuses()]
    return _stats(call, (one for one in adapters if one is not None))


@router.get("/{name}/stats")
async def stats(name: str, request: Request) -> Response:
    """Show the statistics of an adapter since it was loaded."""
    call = Call.of(request)
    return _stats(call, [await call.adapter(name)])


@router.get("/{name}/versions/{version}/stats")
async def version_stats(name: str, version: str, request: Request) -> Response:
    """Show the statistics of a version of an adapter."""
    call = Call.of(request)
    return _stats(call, [await call.adapter(name, version)])


def _stats(call: Call, adapters: Iterable[LoadedAdapter]) -> Response:
    return as_json({"model_stats": [_statistics(call, one) for one in adapters]})


def _statistics(call: Call, loaded: LoadedAdapter) -> dict[str, Any]:
    own = call.context.service.statistics.of(loaded)
    none = {"count": 0, "ns": 0}
    return {
        "name": loaded.name,
        "version": str(loaded.generation),
        "last_inference": round((own.last_answer or 0) * 1000),
        "inference_count": own.texts,
        # Requests, since a batch contains texts of several requests and adapters.
        "execution_count": own.answered.count,
        "inference_stats": {
            "success": _duration(own.answered),
            "fail": _duration(own.failed),
            "queue": _duration(own.queued),
            "compute_input": _duration(own.tokenized),
            "compute_infer": _duration(own.computed),
            "compute_output": none,
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [],
        "memory_usage": [{"type": "CPU", "id": 0, "byte_size": loaded.bytes}],
    }


def _duration(total: Total) -> dict[str, int]:
    return {"count": total.count, "ns": round(total.seconds * 1e9)}
