"""Which adapters are loaded: on demand, by order, and as their bundles come, change and go.

Reading and checking is done in threads of its own. What the loop sees changes in one step:
a new generation takes the place of the old one when it is ready to answer, and not before.
Whoever reads with an old generation holds it, and it goes when the last has let go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from keras_peft.serve.adapter_record import LOAD_STATES, AdapterRecord, AdapterStatus, RetryDelay
from keras_peft.serve.bundle_changes import BundleChanges
from keras_peft.serve.failures import AdapterNotFound, Failure, NotReady
from keras_peft.serve.loading import Loader, Run
from keras_peft.serve.observer import Observer
from keras_peft.serve.usage import AdapterUsage

if TYPE_CHECKING:
    from keras_peft.serve.engines._engine import Engine
    from keras_peft.serve.loaded_adapter import LoadedAdapter
    from keras_peft.serve.repository import Repository
    from keras_peft.serve.settings import ServeSettings

_log = logging.getLogger(__name__)


class Adapters:
    """The adapters of a server. All of it belongs to one event loop.

    Args:
        repository: Where the bundles lie. Those that were given themselves stay loaded.
        engine: The base.
        settings: The limits.
        observer: Is told of what is loaded and unloaded.
        run: How the first row of an adapter is run; by the engine itself by default.
        settling: After how many seconds what has changed in a folder has to look the same to be
            believed.
        retry: When a bundle that failed is tried again.

    Example:
        >>> adapters = Adapters(Repository([Path("bundles")]), engine, ServeSettings())
        >>> await adapters.start()
        >>> news = await adapters.get("news")
        >>> with adapters.using(news):
        ...     ran = await batcher.submit([AdapterRow(ids, news)], deadline=deadline)
    """

    def __init__(
        self,
        repository: Repository,
        engine: Engine,
        settings: ServeSettings,
        observer: Observer | None = None,
        run: Run | None = None,
        *,
        settling: float = 0.2,
        retry: RetryDelay | None = None,
    ) -> None:
        self._repository, self._settings = repository, settings
        self._observer, self._retry = observer or Observer(), retry or RetryDelay()
        self._records: dict[str, AdapterRecord] = {}
        self._loader = Loader(repository, engine, run, settling=settling)
        self._changes = BundleChanges(repository, self._records, settling)
        self._generations: dict[str, int] = {}
        self._uses = AdapterUsage()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._has_started = self._is_crowded = False

    @property
    def is_ready(self) -> bool:
        """Whether the first look is over and all that were given themselves can answer."""
        given = [self._records.get(name) for name in self._repository.given]
        return self._has_started and all(record is not None and record.loaded is not None for record in given)

    async def start(self) -> None:
        """Loads what there is, as far as there is room. What fails is in `statuses`, and nothing is raised.

        Raises:
            OSError: If a folder with bundles cannot be looked at.
        """
        for name in sorted(self._repository.given):
            self._follow(name, "given")
        for name, mark in (await self._changes.now()).items():
            self._follow(name, mark)
        if running := [record.loading for record in self._records.values() if record.loading is not None]:
            await asyncio.wait(running)
        self._has_started = True
        self._tell()

    async def watch(self) -> None:
        """Looks at the bundles again and again, until it is cancelled."""
        while self._settings.watch_s:
            await asyncio.sleep(self._settings.watch_s)
            try:
                await self.look()
            except OSError as error:
                # A disk that is away for a while is no reason to unload anything.
                _log.warning("The bundles cannot be looked at: %s", error)

    async def look(self) -> None:
        """Looks at the bundles once: new and changed ones begin to load, absent ones are unloaded.

        Raises:
            OSError: If a folder with bundles cannot be looked at.
        """
        for name, mark in (await self._changes.settled()).items():
            self._follow(name, mark)

    def loaded(self, name: str) -> LoadedAdapter | None:
        """Returns an adapter if it can answer at once."""
        record = self._records.get(name)
        return None if record is None else record.loaded

    async def get(self, name: str) -> LoadedAdapter:
        """Returns an adapter that can answer; loads it if need be.

        Args:
            name: Its name, from whomever.

        Raises:
            AdapterNotFound: If there is none of that name.
            AdapterFailed: If its bundle cannot be used. That is remembered for a while, or
                until the bundle changes.
            NotReady: If it was unloaded by order.
        """
        if (loaded := self.loaded(name)) is not None:
            return loaded
        record = await self._known(name)
        if record.is_off:
            raise NotReady(
                f"The adapter {name!r} was unloaded by order; whoever administers the server can load it again."
            )
        if (trouble := record.trouble) is not None and record.loading is None:
            wait = trouble.until - time.monotonic()
            same = wait > 0 and await asyncio.to_thread(self._loader.mark, name) == record.mark
            # Meanwhile it may have been loaded again, or be just now.
            if same and record.trouble is trouble and record.loading is None:
                raise record.failure(retry_after=wait)
        return record.loaded or await self._loaded(record)

    async def load(self, name: str) -> LoadedAdapter:
        """Loads an adapter, or loads it anew as it lies there now.

        The generation of before answers until the new one can, and goes on if that fails.

        Raises:
            AdapterNotFound: If there is none of that name.
            AdapterFailed: If its bundle cannot be used.
        """
        record = await self._known(name)
        if record.loading is not None:
            # That one may have read what was there before the caller wrote.
            await asyncio.wait([record.loading])
            record = await self._known(name)
        record.is_off = False
        return await self._loaded(record)

    async def unload(self, name: str) -> None:
        """Unloads an adapter when the last request with it is answered; only `load` brings it back.

        Raises:
            AdapterNotFound: If there is none of that name.
        """
        record = await self._known(name)
        record.is_off = True
        if record.loading is not None:
            await asyncio.wait([record.loading])
        record.trouble = None
        await asyncio.shield(self._begin(self._drain(record, "asked")))

    def statuses(self) -> list[AdapterStatus]:
        """Says how each adapter stands, by name."""
        in_flight = self._uses.in_flight()
        return [record.status(in_flight[name]) for name, record in sorted(self._records.items())]

    @contextmanager
    def using(self, loaded: LoadedAdapter) -> Iterator[None]:
        """Counts a request that reads with an adapter, for as long as the context lasts."""
        self._uses.begin(loaded)
        if record := self._records.get(loaded.name):
            record.last_used = time.time()
        try:
            yield
        finally:
            if self._uses.end(loaded) and self._is_crowded:
                self._make_room()

    def close(self) -> None:
        """Begins to load nothing more."""
        self._loader.close()

    # ---- What the bundles ask for

    def _follow(self, name: str, mark: str) -> None:
        """Does about a bundle what has to be done."""
        record = self._records.get(name)
        if not mark:
            if record is not None:
                self._begin(self._remove(record))
            return
        if record is None:
            record = self._add_record(name)
            busy = sum(one.loaded is not None or one.loading is not None for one in self._records.values())
            if busy >= self._settings.max_adapters and not record.is_pinned:
                # None that is in use goes for one that nobody has asked for.
                return
        self._start_loading(record)

    async def _remove(self, record: AdapterRecord) -> None:
        await self._drain(record, "removed")
        if record.loaded is None and record.loading is None:
            self._forget(record)

    # ---- Loading

    async def _known(self, name: str) -> AdapterRecord:
        if name not in self._records:
            await asyncio.to_thread(self._repository.folder, name)
        return self._records.get(name) or self._add_record(name)

    def _add_record(self, name: str) -> AdapterRecord:
        record = self._records[name] = AdapterRecord(
            name, is_pinned=name in self._repository.given, retry=self._retry
        )
        record.generation = self._generations.get(name, 0)
        return record

    def _forget(self, record: AdapterRecord) -> None:
        if self._records.get(record.name) is record:
            del self._records[record.name]
            # One that comes back shall not have a generation that was another.
            self._generations[record.name] = record.generation
        self._tell()

    async def _loaded(self, record: AdapterRecord) -> LoadedAdapter:
        # Who waits and goes away takes the loading from nobody else.
        loaded = await asyncio.shield(record.loading or self._start_loading(record))
        if loaded is None:
            raise record.failure()
        return loaded

    def _start_loading(self, record: AdapterRecord) -> asyncio.Task[LoadedAdapter | None]:
        if record.loading is None:
            self._records.setdefault(record.name, record)  # It may have been forgotten just now.
            record.loading = self._begin(self._load(record))
            self._tell()
        return record.loading

    async def _load(self, record: AdapterRecord) -> LoadedAdapter | None:
        """Loads a new generation and puts it in place; gives none where that failed."""
        start, generation = time.monotonic(), record.generation + 1
        try:
            mark, outcome = await self._loader.load(record.name, generation)
        finally:
            record.loading = None
        if isinstance(outcome, Failure):
            record.fail(outcome, mark)
            _log.warning("%s", outcome)
            self._observer.adapter_failed(record.name, reason=str(outcome))
            if isinstance(outcome, AdapterNotFound) and record.loaded is None:
                self._forget(record)
            self._tell()
            return None
        record.succeed(outcome, mark)
        seconds = time.monotonic() - start
        self._observer.adapter_loaded(
            record.name, generation=generation, pinned=record.is_pinned, seconds=seconds
        )
        self._make_room(newest=record)
        self._tell()
        return outcome

    # ---- Unloading

    async def _drain(self, record: AdapterRecord, reason: str) -> None:
        """Lets nobody use an adapter any more and waits for those who do."""
        was_loaded, record.loaded = record.loaded is not None, None
        record.drains += 1
        self._tell()
        await self._uses.until_over(record.name)
        record.drains -= 1
        if was_loaded and record.loaded is None:
            self._observer.adapter_unloaded(record.name, reason=reason)
        self._tell()

    def _make_room(self, newest: AdapterRecord | None = None) -> None:
        """Unloads idle adapters above the limit, those first that were not used for the longest time."""
        loaded = [record for record in self._records.values() if record.loaded is not None]
        excess = len(loaded) - self._settings.max_adapters
        idle = [
            record
            for record in loaded
            if not (record.is_pinned or record is newest or record.loading or record.loaded in self._uses)
        ]
        for record in sorted(idle, key=lambda one: one.last_used or 0.0)[: max(0, excess)]:
            record.loaded = None
            self._observer.adapter_unloaded(record.name, reason="evicted")
        # What is in use now goes when it is not.
        self._is_crowded = excess > len(idle)
        if excess > 0:
            self._tell()

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        # The loop itself holds tasks weakly.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell(self) -> None:
        counts = Counter(record.state for record in self._records.values())
        self._observer.adapters_changed({state: counts[state] for state in LOAD_STATES})
