"""The other servers that answer at the same address."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prometheus_client import Metric


class Replicas(Protocol):
    """The other servers that answer at the same address, and serve the same folders."""

    async def families(self, own: Sequence[Metric]) -> list[Metric]:
        """Returns the metrics of all servers.

        Args:
            own: Metrics of this server.

        Returns:
            The metrics. Those of a server that does not answer are missing.
        """
        ...

    async def look(self) -> None:
        """Asks the others to check their bundles now, and not only at the next of their regular checks."""
        ...
