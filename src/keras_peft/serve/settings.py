"""Settings of a server, shared by the Python API and the command line."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from keras_peft.engines import AUTO, ENGINES, KERAS, ONNX
from keras_peft.errors import OptionError
from keras_peft.options import setting

PRECISIONS = ("float32", "bfloat16", "int8")
# As browsers write it; `*` stands for all.
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class ServeSettings:
    """Settings of a server.

    Args:
        host: Address to listen on.
        port: Port to listen on; 0 picks a free port.
        base: Base model to load: a name, a folder, `hf://owner/name` or a preset. Defaults to the
            base model that the bundles name.
        max_batch_rows: Maximum rows per batch.
        max_batch_tokens: Maximum tokens per batch, including padding. A single longer row still
            runs, alone.
        max_wait_ms: Time an idle worker waits for more rows before it starts a batch, in
            milliseconds.
        max_age_ms: Time after which a row that has waited for rows of other lengths leads the next
            batch, in milliseconds.
        workers: Number of batches that run concurrently; 0 picks a number that suits the machine.
        max_queue: Maximum rows that are waiting or running. Further requests are refused.
        max_body_bytes: Maximum size of a request body, in bytes.
        max_texts: Maximum texts per request, counted once per adapter.
        max_text_chars: Maximum characters per text.
        deadline_ms: Timeout of a request, in milliseconds.
        idle_timeout_s: Time after which an idle connection is closed, in seconds.
        write_timeout_s: Time for a client to read what was sent to it, in seconds. Its connection is
            closed afterwards.
        max_pipelined: Maximum requests that wait on a connection for the responses to earlier ones.
            The connection is closed after these responses if there are more.
        max_connections: Maximum connections; fewer if the process may not open that many files.
        max_connections_per_address: Maximum connections of a client address, and of an IPv6 network
            of 64 bits; 0 for half of all connections. Set it to `max_connections` behind a proxy.
        probe_connections: Connections beyond these limits, which answer only probes such as `/livez`.
        drain_timeout_s: Maximum time to finish pending requests on shutdown, in seconds.
        linger_s: Time in which requests that are on their way on shutdown may arrive, and for clients
            to close a connection after its last response, in seconds.
        pre_stop_s: Time to keep accepting requests after a shutdown signal, in seconds. Readiness
            probes fail meanwhile, so that load balancers stop sending requests.
        max_adapters: Maximum loaded adapters. Beyond it, idle adapters are unloaded, least recently
            used first.
        adapter_memory_mb: Maximum memory of the weights of loaded adapters, in megabytes. Beyond it,
            too, idle adapters are unloaded.
        allow_label_changes: Whether a bundle may replace one with other labels, the same labels in
            another order, or another task. If not, the previous bundle stays in use.
        watch_s: Interval between checks for new, changed and removed bundles, in seconds; 0
            disables them.
        trunk_cache_mb: Memory for the cached outputs of the frozen blocks for recent texts, in
            megabytes; 0 disables the cache.
        engine: What runs the base model: `"onnx"` for ONNX Runtime, `"keras"`, or `"auto"` for the first of
            them that is installed and can run it.
        precision: Data type of the frozen matrix multiplications. `"bfloat16"`, in Keras, is faster on
            processors that support it. `"int8"`, in ONNX Runtime, is faster and takes a quarter of the
            memory. Both round the logits.
        keys: TOML file with API keys, in addition to those in the environment. If there are no keys
            at all, requests need none.
        requests_per_minute: Maximum POST requests per minute of each API key whose entry in the file
            sets no other limit; without API keys, of all requests together. None for no limit.
        without_keys: Whether to listen on an address that other machines can reach although there
            are no API keys.
        allow_origins: Origins of the web pages of other sites that may send requests, such as
            `https://app.example.org`; `*` for all.
        open_metrics: Whether `/metrics` is readable without an API key.
        admin: Whether to enable the routes that load and unload adapters.
        page: Whether to serve the web page at `/`.

    Raises:
        OptionError: If any value is invalid. The message lists all invalid values.

    Example:
        >>> ServeSettings(port=9000, max_batch_rows=64)
    """

    host: str = setting("127.0.0.1", "Address to listen on.")
    port: int = setting(8000, "Port to listen on; 0 picks a free port.")
    base: str | None = setting(None, "Base model to load.", shown="the base model of the bundles")
    max_batch_rows: int = setting(32, "Maximum rows per batch.")
    max_batch_tokens: int = setting(4096, "Maximum tokens per batch, including padding.")
    max_wait_ms: float = setting(0.0, "Time an idle worker waits for more rows, in milliseconds.")
    max_age_ms: float = setting(
        100.0,
        "Time after which a row that has waited for rows of other lengths leads the next batch, in milliseconds.",
    )
    workers: int = setting(0, "Number of batches that run concurrently.", shown="picked for the machine")
    max_queue: int = setting(512, "Maximum rows that are waiting or running; further requests are refused.")
    max_body_bytes: int = setting(2_000_000, "Maximum size of a request body, in bytes.")
    max_texts: int = setting(256, "Maximum texts per request, counted once per adapter.")
    max_text_chars: int = setting(100_000, "Maximum characters per text.")
    deadline_ms: float = setting(30_000.0, "Timeout of a request, in milliseconds.")
    idle_timeout_s: float = setting(10.0, "Time after which an idle connection is closed, in seconds.")
    write_timeout_s: float = setting(
        30.0,
        "Time for a client to read what was sent to it, in seconds; its connection is closed afterwards.",
    )
    max_pipelined: int = setting(
        16, "Maximum requests that wait on a connection for the responses to earlier ones."
    )
    max_connections: int = setting(1024, "Maximum connections; fewer if fewer files may be open.")
    max_connections_per_address: int = setting(
        0, "Maximum connections of a client address.", shown="half of all connections"
    )
    probe_connections: int = setting(
        8, "Connections beyond the limits, which answer only probes such as /livez."
    )
    drain_timeout_s: float = setting(30.0, "Maximum time to finish pending requests on shutdown, in seconds.")
    linger_s: float = setting(
        1.0, "Time for the last requests to arrive on shutdown, and for clients to close, in seconds."
    )
    pre_stop_s: float = setting(0.0, "Time to keep accepting requests after a shutdown signal, in seconds.")
    max_adapters: int = setting(1024, "Maximum loaded adapters; beyond it, idle ones are unloaded.")
    adapter_memory_mb: int = setting(
        1024, "Maximum memory of loaded adapters, in megabytes; beyond it, idle ones are unloaded."
    )
    allow_label_changes: bool = setting(
        False, "Let a bundle replace one with other labels, in another order, or with another task."
    )
    watch_s: float = setting(2.0, "Interval between checks for changed bundles, in seconds; 0 disables them.")
    trunk_cache_mb: int = setting(
        64, "Memory for cached outputs of the frozen blocks, in megabytes; 0 disables the cache."
    )
    engine: str = setting(
        AUTO, "What runs the base model: onnx (ONNX Runtime), keras, or auto.", choices=ENGINES
    )
    precision: str = setting(
        "float32",
        "Data type of the frozen matrix multiplications; bfloat16 needs keras, int8 needs onnx.",
        choices=PRECISIONS,
    )
    keys: Path | None = setting(
        None,
        "TOML file with API keys, in addition to KERAS_PEFT_API_KEY and KERAS_PEFT_ADMIN_KEY.",
        shown="none",
    )
    requests_per_minute: int | None = setting(
        None, "Maximum requests per minute of each API key that sets no limit of its own.", shown="no limit"
    )
    without_keys: bool = setting(
        False, "Listen on an address that other machines can reach, even without API keys."
    )
    allow_origins: tuple[str, ...] = setting(
        (),
        "Origin of web pages that may send requests, such as https://app.example.org, or * for all; can be repeated.",
        shown="none",
    )
    open_metrics: bool = setting(False, "Allow reading /metrics without an API key.")
    admin: bool = setting(True, "Enable the routes that load and unload adapters.")
    page: bool = setting(True, "Serve the web page at /.")

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
            "write_timeout_s": 0.1,
            "max_pipelined": 1,
            "max_connections": 1,
            "max_connections_per_address": 0,
            "probe_connections": 1,
            "drain_timeout_s": 0,
            "linger_s": 0,
            "pre_stop_s": 0,
            "max_adapters": 1,
            "adapter_memory_mb": 1,
            "requests_per_minute": 1,
            "watch_s": 0,
            "trunk_cache_mb": 0,
        }
        problems = [
            f"`{name}` must be at least {minimum:g}, got {getattr(self, name)!r}."
            for name, minimum in least.items()
            if getattr(self, name) is not None and not getattr(self, name) >= minimum
        ]
        # The command line passes a list.
        object.__setattr__(self, "allow_origins", tuple(self.allow_origins))
        problems += [
            f"`allow_origins={origin}` is not an origin; expected a scheme and a host, such as "
            "https://app.example.org or http://localhost:3000, without a path."
            for origin in self.allow_origins
            if not _ORIGIN.fullmatch(origin)
        ]
        if self.precision not in PRECISIONS:
            problems.append(f"`precision` must be {' or '.join(PRECISIONS)}, got {self.precision!r}.")
        if self.engine not in ENGINES:
            problems.append(f"`engine` must be {' or '.join(ENGINES)}, got {self.engine!r}.")
        for precision, engine, other in (("bfloat16", KERAS, ONNX), ("int8", ONNX, KERAS)):
            if self.precision == precision and self.engine == other:
                problems.append(
                    f"`precision={precision}` needs `engine={engine}`; with `engine={other}`, leave it out."
                )
        if self.port > 65535:
            problems.append(f"`port` must be at most 65535, got {self.port}.")
        if problems:
            raise OptionError(" ".join(problems))

    def to_flags(self) -> dict[str, Any]:
        """Returns the settings that differ from their defaults.

        Returns:
            The values by field name.
        """
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if getattr(self, one.name) != one.default
        }
