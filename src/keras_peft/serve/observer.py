"""What happens in a server, told to whoever wants to count it. The base class hears and does nothing."""

from __future__ import annotations

from collections.abc import Sequence


class Observer:
    """Hears what happens. Every method may be called from any thread, returns at once and never raises.

    Example:
        >>> class Printing(Observer):
        ...     def adapter_unloaded(self, name: str, *, reason: str) -> None:
        ...         logging.info("%s is gone: %s", name, reason)
    """

    # ---- The batcher

    def queue_changed(self, *, waiting: int, running: int) -> None:
        """The queue has grown or shrunk.

        Args:
            waiting: Rows that wait.
            running: Rows that are being computed.
        """

    def batch_started(
        self, *, rows: int, tokens: int, padded: int, distinct_adapters: int, waited: Sequence[float]
    ) -> None:
        """A batch goes to the base.

        Args:
            rows: Rows in it.
            tokens: Tokens of these rows, without padding.
            padded: Tokens that are computed, padding included.
            distinct_adapters: How many adapters the rows belong to.
            waited: For each row the seconds that it waited.
        """

    def batch_ended(self, *, rows: int, seconds: float, failed: bool = False) -> None:
        """A batch is computed, or has failed.

        Args:
            rows: Rows in it.
            seconds: How long the base and the heads took.
            failed: Whether it has no outputs.
        """

    # ---- The adapters

    def adapter_loaded(self, name: str, *, generation: int, pinned: bool, seconds: float) -> None:
        """An adapter, or a new generation of one, answers from now on.

        Args:
            name: Its name.
            generation: Its generation, counted from 1.
            pinned: Whether it stays loaded when it is idle.
            seconds: How long loading took.
        """

    def adapter_unloaded(self, name: str, *, reason: str) -> None:
        """An adapter answers no more; a generation that was replaced is not told.

        Args:
            name: Its name.
            reason: One word: `asked`, `evicted` or `removed`.
        """

    def adapter_failed(self, name: str, *, reason: str) -> None:
        """An adapter could not be loaded; an older generation may go on answering.

        Args:
            name: Its name.
            reason: The message of the error.
        """

    def adapters_changed(self, states: dict[str, int]) -> None:
        """Adapters have changed their states.

        Args:
            states: How many adapters are in each state.
        """

    # ---- The service

    def tokenized(self, *, texts: int, tokens: int, cut: int, seconds: float) -> None:
        """The texts of a request have become tokens.

        Args:
            texts: How many they are.
            tokens: Their tokens, those of windows included.
            cut: Texts whose end was left out since the base reads no more.
            seconds: How long it took.
        """

    def adapter_answered(self, name: str, *, texts: int, kind: str = "") -> None:
        """An adapter has answered, or has not.

        Args:
            name: Its name.
            texts: How many texts it was asked about.
            kind: The kind of the failure (`Failure.kind`), empty where it answered.
        """

    # ---- HTTP

    def request_ended(self, *, route: str, status: int, seconds: float) -> None:
        """A request has its answer.

        Args:
            route: The pattern of its route, such as `/adapters/{name}`.
            status: The HTTP status; 499 where the client went away.
            seconds: From its first byte to the answer's last.
        """

    def request_failed(self, kind: str) -> None:
        """A request was not answered as it was asked; `kind` is that of its `Failure`."""
