"""What a server can be told: one frozen dataclass, which is at once Python API and flags."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from keras_peft.errors import OptionError
from keras_peft.options import setting

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """How to serve.

    Args:
        host: The address to listen at.
        port: The port to listen at; 0 takes a free one.
        base: The base; by default the one that the bundles name.
        max_batch_rows: Most rows that run together.
        max_batch_tokens: Most tokens that run together, padding included; one row alone may have
            more.
        max_wait_ms: How long an idle worker waits for more rows, in milliseconds.
        max_age_ms: How long a row may be passed over because of its length before it leads a
            batch, in milliseconds.
        workers: Batches that run at the same time; 0 is a good number for the machine.
        max_queue: Most rows that wait and run; above it requests are refused.
        max_body_bytes: Most bytes of a request's body, unpacked.
        max_texts: Most texts in a request, times the adapters that read them.
        max_text_chars: Most characters of a text.
        deadline_ms: After how long a request is given up, in milliseconds.
        idle_timeout_s: After how long a silent connection is closed, in seconds.
        drain_timeout_s: How long a server that shall end finishes its work, in seconds.
        pre_stop_s: How long it answers on before that, so that balancers see it is not ready.
        max_adapters: Most adapters that are loaded; above it idle ones go, the longest
            unused first.
        watch_s: How often the folder is looked at for new, changed and removed bundles, in
            seconds; 0 never.
        trunk_cache_mb: Memory for what the frozen blocks gave for recent texts, in megabytes;
            0 keeps nothing.
        precision: What the frozen matrices multiply in: `"float32"`, or `"bfloat16"`, which is
            faster on processors made for it and rounds the logits.
        keys: A file with keys, beside those of the environment; where there are none at all,
            none is needed.
        without_keys: Listen at an address that other machines reach though there are no keys.
        open_metrics: Let `/metrics` be read without a key.
        admin: Offer the routes that load and unload.
        page: Offer the page at `/`.

    Raises:
        OptionError: If a value cannot be used; all that cannot are in the message.

    Example:
        >>> ServeSettings(port=9000, max_batch_rows=64)
    """

    host: str = setting("127.0.0.1", "Address to listen at.")
    port: int = setting(8000, "Port to listen at; 0 takes a free one.")
    base: str | None = setting(None, "Where the base lies now.", shown="what the bundles name")
    max_batch_rows: int = setting(32, "Most rows that run together.")
    max_batch_tokens: int = setting(4096, "Most tokens that run together, padding included.")
    max_wait_ms: float = setting(0.0, "How long an idle worker waits for more rows, in milliseconds.")
    max_age_ms: float = setting(
        100.0, "How long a row may be passed over because of its length, in milliseconds."
    )
    workers: int = setting(0, "Batches that run at the same time.", shown="what suits the machine")
    max_queue: int = setting(512, "Most rows that wait and run; above it requests are refused.")
    max_body_bytes: int = setting(2_000_000, "Most bytes of a request's body, unpacked.")
    max_texts: int = setting(256, "Most texts in a request, times the adapters that read them.")
    max_text_chars: int = setting(100_000, "Most characters of a text.")
    deadline_ms: float = setting(30_000.0, "After how long a request is given up, in milliseconds.")
    idle_timeout_s: float = setting(10.0, "After how long a silent connection is closed, in seconds.")
    drain_timeout_s: float = setting(30.0, "How long a server that shall end finishes its work, in seconds.")
    pre_stop_s: float = setting(0.0, "How long it answers on before that, in seconds.")
    max_adapters: int = setting(256, "Most adapters that are loaded; idle ones go first.")
    watch_s: float = setting(2.0, "How often the folder is looked at, in seconds; 0 never.")
    trunk_cache_mb: int = setting(64, "Memory for the frozen blocks' answers to recent texts, in megabytes.")
    precision: str = setting("float32", "What frozen matrices multiply in.", choices=PRECISIONS)
    keys: Path | None = setting(None, "File with keys, beside those of the environment.", shown="none")  # noqa: RUF009
    without_keys: bool = setting(False, "Listen where other machines reach it though there are no keys.")
    open_metrics: bool = setting(False, "Let /metrics be read without a key.")
    admin: bool = setting(True, "Offer the routes that load and unload.")
    page: bool = setting(True, "Offer the page at /.")

    def __post_init__(self) -> None:
        least: dict[str, float] = {
            "port": 0,
            "max_batch_rows": 1,
            "max_batch_tokens": 1,
            "max_wait_ms": 0,
            "max_age_ms": 0,
            "workers": 0,
            "max_queue": 1,
            "max_body_bytes": 1024,
            "max_texts": 1,
            "max_text_chars": 1,
            "deadline_ms": 1,
            "idle_timeout_s": 0.1,
            "drain_timeout_s": 0,
            "pre_stop_s": 0,
            "max_adapters": 1,
            "watch_s": 0,
            "trunk_cache_mb": 0,
        }
        problems = [
            f"`{name}` must be at least {minimum:g}, got {getattr(self, name)!r}."
            for name, minimum in least.items()
            if not getattr(self, name) >= minimum
        ]
        if self.precision not in PRECISIONS:
            problems.append(f"`precision` must be {' or '.join(PRECISIONS)}, got {self.precision!r}.")
        if self.port > 65535:
            problems.append(f"`port` must be at most 65535, got {self.port}.")
        if problems:
            raise OptionError(" ".join(problems))

    def to_flags(self) -> dict[str, Any]:
        """Returns the values that are not the defaults."""
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if getattr(self, one.name) != one.default
        }
