"""Who reads with which generation of an adapter: it goes when the last has let go."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_peft.serve.loaded_adapter import LoadedAdapter


class AdapterUsage:
    """Counts requests by the generation that they read with. It belongs to one event loop."""

    def __init__(self) -> None:
        self._uses: dict[LoadedAdapter, _Use] = {}

    def __contains__(self, loaded: LoadedAdapter | None) -> bool:
        return loaded in self._uses

    def begin(self, loaded: LoadedAdapter) -> None:
        """Counts one more request."""
        use = self._uses.get(loaded)
        if use is None:
            use = self._uses[loaded] = _Use()
        use.count += 1

    def end(self, loaded: LoadedAdapter) -> bool:
        """Counts one request less.

        Returns:
            Whether nobody uses the generation any more.
        """
        use = self._uses[loaded]
        use.count -= 1
        if use.count:
            return False
        del self._uses[loaded]
        use.over.set()
        return True

    def in_flight(self) -> Counter[str]:
        """Returns how many requests read with each adapter, whatever the generation."""
        found = Counter[str]()
        for loaded, use in self._uses.items():
            found[loaded.name] += use.count
        return found

    async def until_over(self, name: str) -> None:
        """Waits for the requests that read now with any generation of an adapter."""
        for use in [use for loaded, use in self._uses.items() if loaded.name == name]:
            await use.over.wait()


@dataclass(eq=False, slots=True)
class _Use:
    count: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)
