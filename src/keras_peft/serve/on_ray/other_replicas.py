"""What a replica asks the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import Metric

# Seconds for the other replicas to answer.
_PATIENCE = 5.0
# Seconds until they are asked again.
_PAUSE = 0.1


class OtherReplicas:
    """The other replicas of a replica; see `Replicas`."""

    def __init__(self) -> None:
        self._handle: Any = None

    async def families(self, own: Sequence[Metric]) -> list[Metric]:
        """Returns the metrics of all replicas; see `Replicas`."""
        from keras_peft.serve.metrics import merged

        found = {own_name(): own}
        found.update(one for one in await self._asked("families") if isinstance(one, tuple))
        return merged(found)

    async def look(self) -> None:
        """Makes the others check their bundles for changes; see `Replicas`."""
        await self._asked("look")

    async def _asked(self, method: str) -> list[Any]:
        """Calls a method of all replicas; returns the results, and an exception for those that do not answer."""
        from ray import serve
        from ray.serve.exceptions import DeploymentUnavailableError

        if self._handle is None:
            place = serve.get_replica_context()
            self._handle = serve.get_deployment_handle(place.deployment, place.app_name)
        try:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    answers = self._handle.broadcast(method)
                    try:
                        return list(await answers.results_async(return_exceptions=True))
                    except DeploymentUnavailableError:  # A new handle does not know the replicas yet.
                        await asyncio.sleep(_PAUSE)
        except Exception as error:  # Ray's errors have no common class. Those replicas are being replaced.
            logging.getLogger(__name__).warning("Other replicas do not answer (%s).", type(error).__name__)
            return []


def own_name() -> str:
    """Returns the name of the replica that runs in this process."""
    from ray import serve

    return str(serve.get_replica_context().replica_id.unique_id)
