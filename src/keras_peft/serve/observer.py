"""Callbacks for the events of a server. The base class ignores all events."""

from __future__ import annotations

from collections.abc import Sequence


class Observer:
    """Receives the events of a server.

    Any method may be called from any thread. Methods must return immediately and never raise.

    Example:
        >>> class Printing(Observer):
        ...     def adapter_unloaded(self, name: str, *, reason: str) -> None:
        ...         logging.info("%s was unloaded: %s", name, reason)
    """

    # ---- The batcher

    def queue_changed(self, *, waiting: int, running: int) -> None:
        """Called when the length of the queue changes.

        Args:
            waiting: Number of rows that wait.
            running: Number of rows that are being computed.
        """

    def batch_started(
        self, *, rows: int, tokens: int, padded: int, distinct_adapters: int, waited: Sequence[float]
    ) -> None:
        """Called when a batch starts.

        Args:
            rows: Number of rows.
            tokens: Number of tokens, without padding.
            padded: Number of tokens, including padding.
            distinct_adapters: Number of adapters in the batch.
            waited: Waiting time of each row, in seconds.
        """

    def batch_ended(self, *, rows: int, seconds: float, failed: bool = False) -> None:
        """Called when a batch ends.

        Args:
            rows: Number of rows.
            seconds: Computation time, in seconds.
            failed: Whether the batch failed.
        """

    # ---- The adapters

    def adapter_loaded(self, name: str, *, generation: int, pinned: bool, seconds: float) -> None:
        """Called when a generation of an adapter is loaded.

        Args:
            name: Name of the adapter.
            generation: Number of the generation, counted from 1.
            pinned: Whether the adapter stays loaded when it is idle.
            seconds: Loading time, in seconds.
        """

    def adapter_unloaded(self, name: str, *, reason: str) -> None:
        """Called when an adapter is unloaded, but not when a new generation replaces it.

        Args:
            name: Name of the adapter.
            reason: `asked`, `evicted` or `removed`.
        """

    def adapter_failed(self, name: str, *, reason: str) -> None:
        """Called when an adapter fails to load. A previous generation may still answer.

        Args:
            name: Name of the adapter.
            reason: Error message.
        """

    def adapters_changed(self, states: dict[str, int]) -> None:
        """Called when the states of adapters change.

        Args:
            states: Number of adapters by state.
        """

    # ---- The service

    def tokenized(self, *, texts: int, tokens: int, cut: int, seconds: float) -> None:
        """Called when the texts of a request are tokenized.

        Args:
            texts: Number of texts.
            tokens: Number of tokens, including those of all windows.
            cut: Number of truncated texts.
            seconds: Tokenization time, in seconds.
        """

    def adapter_answered(self, name: str, *, texts: int, kind: str = "") -> None:
        """Called when an adapter has answered a request or failed to.

        Args:
            name: Name of the adapter.
            texts: Number of texts in the request.
            kind: Kind of the failure (`Failure.kind`), or empty if it answered.
        """

    # ---- HTTP

    def request_ended(self, *, route: str, status: int, seconds: float) -> None:
        """Called when an HTTP request ends.

        Args:
            route: Pattern of the route, such as `/adapters/{name}`.
            status: HTTP status; 499 if the client disconnected.
            seconds: Time from the first byte of the request to the last byte of the response, in
                seconds.
        """

    def request_failed(self, kind: str) -> None:
        """Called when an HTTP request fails.

        Args:
            kind: Kind of the failure (`Failure.kind`).
        """

    def rate_limited(self, key: str) -> None:
        """Called when a request exceeds the rate limit of its API key.

        Args:
            key: Name of the API key, or empty if the server has none.
        """
