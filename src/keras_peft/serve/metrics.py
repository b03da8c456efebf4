"""Prometheus metrics of a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector
from prometheus_client.exposition import choose_encoder

from keras_peft import memory
from keras_peft._version import __version__
from keras_peft.serve.observer import Observer

_PREFIX = "keras_peft"
# Further adapters share one series, which bounds the memory of the metrics.
MOST_ADAPTERS = 1024
OTHERS = "(others)"
"""Label of the series that further adapters share."""
# Labels whose values not every API key may see.
_NAMES = ("adapter", "key")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LOAD_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
_SHARES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


class Metrics(Observer):
    """Collects Prometheus metrics in a registry of its own.

    Only loaded adapters have series of their own, which are deleted when they are unloaded.
    Requests for unknown names therefore create no series.

    Args:
        base: Name of the base model, without its local path.
        base_sha256: SHA-256 of the weights of the base model.

    Attributes:
        registry: The registry.

    Example:
        >>> metrics = Metrics(base="minilm", base_sha256="53aa5117…")
        >>> metrics.request_failed("timeout")
        >>> print(exposition(metrics.families(), "")[0].decode())
    """

    def __init__(self, *, base: str = "", base_sha256: str = "") -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._lock = threading.Lock()
        # Cached, since looking up a series by its labels takes longer than updating it.
        self._of_route: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self._loaded: dict[str, tuple[str, str]] = {}

        info = self._gauge(
            "build_info", "Versions of the server and its base model.", "version", "base", "base_sha256"
        )
        info.labels(__version__, base, base_sha256).set(1)
        if limit := memory.limit_bytes():
            self._gauge("memory_limit_bytes", "Memory that the server may use.").set(limit)
        self._requests = self._counter("requests", "Completed requests.", "route", "status")
        self._failures = self._counter("request_failures", "Failed requests.", "reason")
        self._rate_limited = self._counter(
            "rate_limited_requests", "Requests beyond the rate limit of an API key.", "key"
        )
        self._request_seconds = self._histogram(
            "request_duration_seconds",
            "Time from the first byte of a request to its response.",
            _SECONDS,
            "route",
        )
        self._tokenization = self._histogram(
            "tokenization_duration_seconds", "Time to tokenize the texts of a request.", _SECONDS
        )
        self._input_tokens = self._histogram("request_input_tokens", "Tokens per request.", _TOKENS)
        self._cut_texts = self._counter("cut_texts", "Texts that were truncated because they are too long.")
        self._queue = self._histogram("queue_duration_seconds", "Time a row waited in the queue.", _SECONDS)
        self._waiting = self._gauge("queue_size", "Rows waiting in the queue.")
        self._running = self._gauge("in_flight", "Rows being computed.")
        self._inference = self._histogram(
            "inference_duration_seconds", "Time the base model took per batch.", _SECONDS
        )
        self._failed_batches = self._counter("failed_batches", "Batches that failed.")
        self._rows = self._histogram("batch_size", "Rows per batch.", _ROWS)
        self._tokens = self._histogram("batch_tokens", "Tokens per batch, including padding.", _TOKENS)
        self._padding = self._histogram("batch_padding_ratio", "Share of padding per batch.", _SHARES)
        self._distinct = self._histogram("batch_distinct_adapters", "Distinct adapters per batch.", _ROWS)
        self._adapter_texts = self._counter(
            "adapter_requests", "Texts predicted per adapter.", "adapter", "status"
        )
        self._adapter_loaded = self._gauge(
            "adapter_loaded", "1 for each adapter that is loaded.", "adapter", "generation", "pinned"
        )
        self._loads = self._counter("adapter_loads", "Attempts to load an adapter.", "result")
        for result in ("ok", "failed"):
            # Prometheus does not count the first value of a series as an increase.
            self._loads.labels(result)
        self._load_seconds = self._histogram(
            "adapter_load_duration_seconds", "Time to load an adapter.", _LOAD_SECONDS
        )
        self._evictions = self._counter("adapter_evictions", "Adapters that were unloaded.", "reason")
        self._slots = self._gauge("adapter_slots", "Adapters per state.", "state")

    def families(self) -> list[Metric]:
        """Returns the current values of all series."""
        return list(self.registry.collect())

    def queue_changed(self, *, waiting: int, running: int) -> None:
        """Updates the queue gauges; see `Observer`."""
        self._waiting.set(waiting)
        self._running.set(running)

    def batch_started(
        self, *, rows: int, tokens: int, padded: int, distinct_adapters: int, waited: Sequence[float]
    ) -> None:
        """Records the size, padding and waiting times of a batch; see `Observer`."""
        self._rows.observe(rows)
        self._tokens.observe(padded)
        self._padding.observe(1 - tokens / padded if padded else 0)
        self._distinct.observe(distinct_adapters)
        for seconds in waited:
            self._queue.observe(seconds)

    def batch_ended(self, *, rows: int, seconds: float, failed: bool = False) -> None:
        """Records the duration of a batch; see `Observer`."""
        self._inference.observe(seconds)
        if failed:
            self._failed_batches.inc()

    def adapter_loaded(self, name: str, *, generation: int, pinned: bool, seconds: float) -> None:
        """Creates the series of an adapter; see `Observer`."""
        self._loads.labels("ok").inc()
        self._load_seconds.observe(seconds)
        series = (str(generation), str(pinned).lower())
        with self._lock:
            if name not in self._loaded and len(self._loaded) >= MOST_ADAPTERS:
                return
            if name in self._loaded:
                self._adapter_loaded.remove(name, *self._loaded[name])
            self._loaded[name] = series
            self._adapter_loaded.labels(name, *series).set(1)

    def adapter_unloaded(self, name: str, *, reason: str) -> None:
        """Deletes the series of an adapter; see `Observer`."""
        self._evictions.labels(reason).inc()
        with self._lock:
            if name in self._loaded:
                self._adapter_loaded.remove(name, *self._loaded.pop(name))
                self._adapter_texts.remove_by_labels({"adapter": name})

    def adapter_failed(self, name: str, *, reason: str) -> None:
        """Counts a failed load; see `Observer`."""
        self._loads.labels("failed").inc()

    def adapters_changed(self, states: dict[str, int]) -> None:
        """Updates the gauge of each state; see `Observer`."""
        self._slots.clear()
        for state, count in states.items():
            self._slots.labels(state.lower()).set(count)

    def tokenized(self, *, texts: int, tokens: int, cut: int, seconds: float) -> None:
        """Records the tokenization of a request; see `Observer`."""
        self._tokenization.observe(seconds)
        self._input_tokens.observe(tokens)
        if cut:
            self._cut_texts.inc(cut)

    def adapter_answered(self, name: str, *, texts: int, kind: str = "") -> None:
        """Counts the texts of an adapter; see `Observer`."""
        with self._lock:
            self._adapter_texts.labels(name if name in self._loaded else OTHERS, kind or "ok").inc(texts)

    def request_ended(self, *, route: str, status: int, seconds: float) -> None:
        """Counts a request and records its duration; see `Observer`."""
        found = self._of_route.get((route, status))
        if found is None:
            found = self._requests.labels(route, str(status)), self._request_seconds.labels(route)
            self._of_route[route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def request_failed(self, kind: str) -> None:
        """Counts a failed request; see `Observer`."""
        self._failures.labels(kind).inc()

    def rate_limited(self, key: str) -> None:
        """Counts a request beyond the rate limit; see `Observer`."""
        self._rate_limited.labels(key).inc()

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", help, labels, registry=self.registry)

    def _gauge(self, name: str, help: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"{_PREFIX}_{name}", help, labels, buckets=buckets, registry=self.registry)


def exposition(
    families: Iterable[Metric], accept: str, shown: Callable[[str, str], bool] | None = None
) -> tuple[bytes, str]:
    """Returns metrics in a text format of Prometheus.

    Args:
        families: The metrics; see `Metrics.families`.
        accept: Accept header of the request, which selects the format.
        shown: Whether to return the series whose label, `"adapter"` or `"key"`, has a value.
            Defaults to all series.

    Returns:
        The encoded metrics and their media type.
    """
    encoder, media_type = choose_encoder(accept)
    return encoder(_View(families, shown)), media_type


def merged(by_replica: Mapping[str, Iterable[Metric]]) -> list[Metric]:
    """Returns the metrics of several servers, whose series differ in the label `replica`.

    Sums of counters would fall when a server ends.

    Args:
        by_replica: Metrics by the name of the server.
    """
    found: dict[str, Metric] = {}
    for replica, families in by_replica.items():
        for one in families:
            family = found.setdefault(one.name, Metric(one.name, one.documentation, one.type, one.unit))
            family.samples += [
                sample._replace(labels={**sample.labels, "replica": replica}) for sample in one.samples
            ]
    return list(found.values())


class _View(CollectorRegistry):
    """Some of the series of metrics."""

    def __init__(self, families: Iterable[Metric], shown: Callable[[str, str], bool] | None) -> None:
        super().__init__()
        self._families, self._shown = families, shown

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            if (shown := self._shown) is not None:
                family.samples = [
                    sample
                    for sample in family.samples
                    if all(name not in sample.labels or shown(name, sample.labels[name]) for name in _NAMES)
                ]
            yield family
