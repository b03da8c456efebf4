"""Counts of the requests that use each generation of an adapter."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_peft.serve.loaded_adapter import LoadedAdapter


class AdapterUsage:
    """Counts the requests that use each generation of an adapter.

    An instance belongs to one event loop. A generation is released when its last request ends.
    """

    def __init__(self) -> None:
        self._uses: dict[LoadedAdapter, _Use] = {}

    def __contains__(self, loaded: LoadedAdapter | None) -> bool:
        return loaded in self._uses

    def begin(self, loaded: LoadedAdapter) -> None:
        """Counts the start of a request.

        Args:
            loaded: Generation that the request uses.
        """
        use = self._uses.get(loaded)
        if use is None:
            use = self._uses[loaded] = _Use()
        use.count += 1

    def end(self, loaded: LoadedAdapter) -> bool:
        """Counts the end of a request.

        Args:
            loaded: Generation that the request used.

        Returns:
            Whether it was the last request of the generation.
        """
        use = self._uses[loaded]
        use.count -= 1
        if use.count:
            return False
        del self._uses[loaded]
        use.over.set()
        return True

    def in_flight(self) -> Counter[str]:
        """Returns the number of requests by adapter name, across all generations."""
        found = Counter[str]()
        for loaded, use in self._uses.items():
            found[loaded.name] += use.count
        return found

    async def until_over(self, name: str) -> None:
        """Waits until the current requests of an adapter have ended, across all generations.

        Args:
            name: Name of the adapter.
        """
        for use in [use for loaded, use in self._uses.items() if loaded.name == name]:
            await use.over.wait()


@dataclass(eq=False, slots=True)
class _Use:
    count: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
