"""What all requests to a server have in common."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from keras_peft.serve.keys import Keys
from keras_peft.serve.metrics import Metrics
from keras_peft.serve.repository import shown_name

if TYPE_CHECKING:
    from keras_peft.serve.service import Service
    from keras_peft.serve.settings import ServeSettings


@dataclass(eq=False)
class ServerContext:
    """A server, as its routes see it.

    Attributes:
        service: Texts to predictions.
        settings: What the server was told.
        keys: Who may ask.
        metrics: What is counted.
        draining: Whether the server shall end: it answers on and is not ready any more.
        started: When it started, in seconds since 1970.
        hung_after: After how many seconds a worker that has not turned round hangs; batches take
            far less.
    """

    service: Service
    settings: ServeSettings
    keys: Keys = field(default_factory=Keys)
    metrics: Metrics = field(default_factory=Metrics)
    draining: bool = False
    started: float = field(default_factory=time.time)
    hung_after: float = 30.0

    @property
    def base_name(self) -> str:
        """What the base is called; of a folder its own name, and not where it lies."""
        return shown_name(self.service.engine.base.name)

    @property
    def is_alive(self) -> bool:
        """Whether batches are computed, however many wait."""
        return self.service.batcher.heartbeat_age < self.hung_after

    @property
    def is_ready(self) -> bool:
        """Whether requests should be sent here."""
        return self.is_alive and not self.draining and self.service.adapters.is_ready
