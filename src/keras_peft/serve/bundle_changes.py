"""Detection of new, changed and removed bundles."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_peft.serve.adapter_record import AdapterRecord
    from keras_peft.serve.repository import Repository


class BundleChanges:
    """Compares the bundles of a repository with the known adapters.

    Args:
        repository: Repository of the bundles.
        records: State of the adapters, by name.
        settling: Time for which a change must persist, in seconds. A folder that is being replaced
            is briefly absent, and one that is being copied grows.

    Attributes:
        seconds: Time that the last reading of the fingerprints took.
    """

    def __init__(self, repository: Repository, records: Mapping[str, AdapterRecord], settling: float) -> None:
        self._repository, self._records, self._settling = repository, records, settling
        self.seconds = 0.0

    async def now(self) -> dict[str, str]:
        """Returns the bundles that have to be loaded or unloaded.

        Returns:
            Fingerprints by name; empty strings for removed bundles.

        Raises:
            OSError: If a folder of bundles cannot be read.
        """
        start = time.monotonic()
        there = await asyncio.to_thread(self._repository.fingerprints)
        self.seconds = time.monotonic() - start
        absent = {name: "" for name, record in self._records.items() if not (name in there or record.loading)}
        changed = {
            name: mark
            for name, mark in there.items()
            if name not in self._records or self._records[name].wants_loading(mark)
        }
        return absent | changed

    async def settled(self) -> dict[str, str]:
        """Returns the changes of `now` that are the same after the settling time.

        Returns:
            As `now`.

        Raises:
            OSError: If a folder of bundles cannot be read.
        """
        if not (changes := await self.now()):
            return {}
        await asyncio.sleep(self._settling)
        again = await self.now()
        return {name: mark for name, mark in changes.items() if again.get(name) == mark}
