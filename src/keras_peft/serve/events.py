"""Events in the life of a server, as log records with a stable name and fields."""

from __future__ import annotations

import logging
from typing import Any

_LOG = logging.getLogger(__name__)

EVENTS = {
    "starting": "The server starts: `version`, `pid`, `bundles`.",
    "started": (
        "The server answers requests: `address`, `version`, `bundles`, `base`, `engine`, and the numbers of `adapters` "
        "that are loaded and `refused` so far."
    ),
    "middleware_missing": (
        "Proxies of Ray were started without the middleware of keras-peft: `proxies`, their number, and `reason`, what "
        "follows from it and what to do."
    ),
    "start_failed": "The server cannot start: `reason`.",
    "stopping": "A signal stops the server: `signal`, and `pending`, the requests that it still answers.",
    "stopped": (
        "The server has stopped: `signal`, `seconds` since the signal, `requests` that it answered, and `complete`, "
        "which is false if requests were cancelled."
    ),
    "adapter_loaded": "An adapter is loaded: `adapter`, `version`, `sha256`, `seconds`.",
    "adapter_replaced": "A new version of a loaded adapter answers: `adapter`, `version`, `sha256`, `seconds`.",
    "adapter_unloaded": "An adapter is unloaded: `adapter`, `version`, and `reason`: `asked`, `evicted` or `removed`.",
    "adapter_refused": "A bundle cannot be used: `adapter`, `reason`.",
}
"""Names of the events, with their fields."""


def log(event: str, *, level: int = logging.INFO, **fields: Any) -> None:
    """Logs an event.

    Args:
        event: Name of the event, one of `EVENTS`.
        level: Level of the log record.
        fields: Fields of the event. Fields that are None are left out.

    Example:
        >>> log("adapter_unloaded", adapter="mood", version=2, reason="removed")
    """
    if event not in EVENTS:
        raise ValueError(f"{event!r} is not one of {', '.join(EVENTS)}")
    known = {name: value for name, value in fields.items() if value is not None}
    shown = " ".join(f"{name}={value}" for name, value in known.items())
    _LOG.log(level, "%s %s", event, shown, extra={"event": event, "fields": known})
