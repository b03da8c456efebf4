"""What the folders with the bundles ask for: which have come, have changed or are gone."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from keras_peft.serve.adapter_record import AdapterRecord
    from keras_peft.serve.repository import Repository


class BundleChanges:
    """Compares the bundles that are there with what is known of them.

    Args:
        repository: Where the bundles lie.
        records: What is known, by name.
        settling: After how many seconds what has changed has to look the same to be believed. A
            folder that is replaced is absent for an instant, and one that is copied grows.
    """

    def __init__(self, repository: Repository, records: Mapping[str, AdapterRecord], settling: float) -> None:
        self._repository, self._records, self._settling = repository, records, settling

    async def now(self) -> dict[str, str]:
        """Finds the bundles that something has to be done about.

        Returns:
            Their fingerprints by their names; empty for absent ones.

        Raises:
            OSError: If a folder with bundles cannot be looked at.
        """
        there = await asyncio.to_thread(self._repository.fingerprints)
        absent = {name: "" for name, record in self._records.items() if not (name in there or record.loading)}
        changed = {
            name: mark
            for name, mark in there.items()
            if name not in self._records or self._records[name].wants_loading(mark)
        }
        return absent | changed

    async def settled(self) -> dict[str, str]:
        """Finds those of `now` that look the same a little later.

        Raises:
            OSError: If a folder with bundles cannot be looked at.
        """
        if not (changes := await self.now()):
            return {}
        await asyncio.sleep(self._settling)
        again = await self.now()
        return {name: mark for name, mark in changes.items() if again.get(name) == mark}
