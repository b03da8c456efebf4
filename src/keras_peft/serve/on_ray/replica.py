"""A replica: the whole server, without its own port."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft.serve.on_ray.other_replicas import OtherReplicas, own_name
from keras_peft.serve.settings import ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import Metric

    from keras_peft.serve.adapter_record import AdapterStatus
    from keras_peft.serve.keys import Keys


class Server:
    """A replica: the whole server, without its own port.

    Args:
        places: Folders of bundles, or bundles.
        settings: Settings of the server.
        keys: API keys of the server.
    """

    def __init__(self, places: Sequence[Path], settings: ServeSettings, keys: Keys) -> None:
        from keras_peft.serve.http import ray_proxy
        from keras_peft.serve.http.process import create_context
        from keras_peft.serve.http.startup import StartupEvents

        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # JAX takes it for the address of a network proxy, and warns.
        os.environ.pop(ray_proxy.VARIABLE, None)
        _log_to_stderr()

        self._context = create_context(places, settings, keys, StartupEvents())
        self._context.replicas = OtherReplicas()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Creates the application; Ray starts its lifespan before the replica gets requests."""
        from keras_peft.serve.http.app import create

        found = create(self._context)
        found.router.lifespan_context = self._running
        return found

    async def check_health(self) -> None:
        """Tells Ray to replace a replica that hangs.

        Raises:
            RuntimeError: If it hangs.
        """
        if not self._context.is_alive:
            raise RuntimeError("The workers are stuck.")

    async def families(self) -> tuple[str, list[Metric]]:
        """Returns the name of the replica, and its metrics."""
        return own_name(), self._context.metrics.families()

    async def statuses(self) -> list[AdapterStatus]:
        """Returns the status of each adapter."""
        return self._context.service.adapters.statuses()

    async def look(self) -> None:
        """Checks the bundles for changes."""
        await self._context.service.adapters.look()

    @asynccontextmanager
    async def _running(self, _: FastAPI) -> AsyncIterator[None]:
        service = self._context.service
        await service.start(at_once=True)
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            # Ray has waited for the pending requests.
            self._context.draining = True
            await service.stop(timeout=0)


def _log_to_stderr() -> None:
    """Sends the server's own log to stderr, as lines of JSON; the other logs are Ray's."""
    from keras_peft.serve.http.logs import JsonFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("keras_peft")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
