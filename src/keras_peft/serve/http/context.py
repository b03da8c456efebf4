"""State of a server that all requests share."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keras_peft.serve.failures import AdapterFailed
from keras_peft.serve.keys import Keys
from keras_peft.serve.metrics import Metrics
from keras_peft.serve.repository import shown_name

if TYPE_CHECKING:
    from prometheus_client import Metric

    from keras_peft.serve.loaded_adapter import LoadedAdapter
    from keras_peft.serve.replicas import Replicas
    from keras_peft.serve.service import Service
    from keras_peft.serve.settings import ServeSettings


@dataclass(eq=False)
class ServerContext:
    """State of a server that all requests share.

    Attributes:
        service: Answers the requests.
        settings: Settings of the server.
        keys: API keys of the server.
        metrics: Prometheus metrics of the server.
        draining: Whether the server is shutting down. It still answers, but reports not ready.
        started: Start time, in seconds since 1970.
        hung_after: Time without a sign of life after which a worker counts as hung, in seconds; far
            more than a batch takes.
        replicas: The other servers that answer at the same address, or None if there are none.
        clock: Clock of the rate limits, in seconds; it must never go back.
    """

    service: Service
    settings: ServeSettings
    keys: Keys = field(default_factory=Keys)
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False
    started: float = field(default_factory=time.time)
    hung_after: float = 30.0
    replicas: Replicas | None = None
    clock: Callable[[], float] = time.monotonic

    @property
    def base_name(self) -> str:
        """Name of the base model, without its local path."""
        return shown_name(self.service.engine.base.name)

    @property
    def is_alive(self) -> bool:
        """Whether no worker hangs, regardless of the load."""
        return self.service.batcher.heartbeat_age < self.hung_after

    @property
    def is_ready(self) -> bool:
        """Whether the server accepts new requests."""
        return self.is_alive and not self.draining and self.service.adapters.is_ready

    async def families(self) -> list[Metric]:
        """Returns the metrics of the server, and of the others at the same address."""
        own = self.metrics.families()
        return own if self.replicas is None else await self.replicas.families(own)

    async def load(self, name: str) -> LoadedAdapter:
        """Loads or reloads an adapter, also in the other servers; see `Adapters.load`.

        Args:
            name: Name of the adapter.

        Raises:
            AdapterNotFound: If there is no adapter of that name.
            AdapterFailed: If its bundle cannot be used.
        """
        loaded = await self.service.adapters.load(name)
        if self.replicas is not None:
            await self.replicas.look()
        return loaded

    async def unload(self, name: str) -> None:
        """Unloads an adapter; see `Adapters.unload`.

        Args:
            name: Name of the adapter.

        Raises:
            AdapterNotFound: If there is no adapter of that name.
            AdapterFailed: If there are other servers, which would still serve it.
        """
        if self.replicas is not None:
            raise AdapterFailed(
                "Several servers serve the bundles of one folder, and a server that starts loads all of them; "
                "remove the bundle from the folder to unload it."
            )
        await self.service.adapters.unload(name)
