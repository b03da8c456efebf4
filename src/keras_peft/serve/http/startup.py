"""Callbacks for the startup and the end of a server."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_peft.serve.adapter_record import AdapterStatus


class StartupEvents:
    """Callbacks for the startup and the end of a server.

    The methods do nothing by default; override those you need.
    """

    def stage(self, text: str) -> None:
        """Called when a stage begins.

        Args:
            text: Description of the stage, such as "Loading the base model minilm".
        """

    def importing(self, base: str) -> AbstractContextManager[Any]:
        """Returns a context manager that wraps the import of Keras and its backend.

        Args:
            base: Name of the base model that is loaded afterwards.
        """
        return nullcontext()

    def loading(self, *, done: int, adapters: int) -> None:
        """Called repeatedly while the adapters are loaded.

        Args:
            done: Number of adapters that are loaded or have failed.
            adapters: Total number of adapters.
        """

    def listening(self, address: str, adapters: Sequence[AdapterStatus], *, needs_key: bool) -> None:
        """Called when the server starts to answer requests.

        Args:
            address: URL of the server.
            adapters: Status of each adapter.
            needs_key: Whether requests need an API key.
        """

    def stopped(self) -> None:
        """Called when the server has stopped.

        Threads that hang, for example on a disk that is away, may still keep the process alive.
        """
