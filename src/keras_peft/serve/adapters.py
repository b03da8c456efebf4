"""Lifecycle of the adapters: loaded on demand or on request, and as their bundles change.

Bundles are read and checked in separate threads. The event loop sees each change as one step: a new
generation replaces the previous one only when it is ready to answer. A request keeps the generation
that it started with in use; a generation is released after its last request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from keras_peft.serve import events
from keras_peft.serve.adapter_record import (
    LOAD_STATES,
    AdapterRecord,
    AdapterStatus,
    RetryDelay,
    switched_off,
)
from keras_peft.serve.bundle_changes import BundleChanges
from keras_peft.serve.failures import AdapterNotFound, Failure
from keras_peft.serve.loading import Loader, Run
from keras_peft.serve.observer import Observer
from keras_peft.serve.usage import AdapterUsage

if TYPE_CHECKING:
    from keras_peft.serve.engines._engine import Engine
    from keras_peft.serve.loaded_adapter import LoadedAdapter
    from keras_peft.serve.repository import Repository
    from keras_peft.serve.settings import ServeSettings

_log = logging.getLogger(__name__)

# Loads in the background at a time; the loader has twice as many threads.
_IN_BACKGROUND = 2
# A server with at most so many adapters starts when they are loaded, or after these seconds.
_FEW, _FEW_SECONDS = 16, 10.0
# Pause between two checks of the bundles, as a multiple of the time that a check takes.
_REST = 20.0


class Adapters:
    """The adapters of a server. An instance belongs to one event loop.

    Args:
        repository: Repository of the bundles. Bundles that were passed explicitly stay loaded.
        engine: Engine that runs the base model.
        settings: Settings of the server.
        observer: Receives events about loading and unloading.
        run: Runs the first row of an adapter. Defaults to `engine.run`.
        settling: Time for which a change in a folder must persist before it takes effect, in
            seconds.
        retry: Delay before a bundle that failed to load is tried again.

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
        self._most_bytes = settings.adapter_memory_mb << 20
        self._observer, self._retry = observer or Observer(), retry or RetryDelay()
        self._records: dict[str, AdapterRecord] = {}
        self._loader = Loader(repository, engine, run, settling=settling)
        self._changes = BundleChanges(repository, self._records, settling)
        self._generations: dict[str, int] = {}
        self._uses = AdapterUsage()
        self._tasks: set[asyncio.Task[Any]] = set()
        # Fingerprints of the bundles that wait to be loaded without a request, by name.
        self._queued: dict[str, str] = {}
        self._in_background: set[asyncio.Task[Any]] = set()
        self._has_started = self._is_crowded = False

    @property
    def is_ready(self) -> bool:
        """Whether `start` has finished and all explicitly passed bundles are loaded."""
        given = [self._records.get(name) for name in self._repository.given]
        return self._has_started and all(record is not None and record.loaded is not None for record in given)

    async def start(self, *, at_once: bool = False) -> None:
        """Loads the adapters of all bundles, up to `settings.max_adapters`.

        A bundle that fails to load raises nothing; see `statuses`.

        Args:
            at_once: Whether to return without waiting for many adapters. They are loaded in the
                background, and at the first request for them.

        Raises:
            OSError: If a folder of bundles cannot be read.
        """
        for name in sorted(self._repository.given):
            self._follow(name, "given")
        for name, mark in (await self._changes.now()).items():
            self._follow(name, mark)
        if not at_once:
            await self.until_loaded()
        elif len(self._records) <= _FEW:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FEW_SECONDS):
                    await self.until_loaded()
        self._has_started = True
        self._tell()

    async def until_loaded(self) -> None:
        """Waits until no adapter is loading or waits to be loaded."""
        while running := [record.loading for record in self._records.values() if record.loading is not None]:
            await asyncio.wait(running)

    async def watch(self) -> None:
        """Checks the bundles for changes every `settings.watch_s` seconds, until it is cancelled."""
        while self._settings.watch_s:
            # Checking thousands of bundles must not take time from requests.
            await asyncio.sleep(max(self._settings.watch_s, _REST * self._changes.seconds))
            try:
                await self.look()
            except OSError as error:
                # A disk that is briefly unavailable is no reason to unload adapters.
                _log.warning("Cannot check the bundles: %s", error)

    async def look(self) -> None:
        """Checks the bundles once: loads new and changed ones, unloads removed ones.

        Raises:
            OSError: If a folder of bundles cannot be read.
        """
        for name, mark in (await self._changes.settled()).items():
            self._follow(name, mark)

    def loaded(self, name: str) -> LoadedAdapter | None:
        """Returns an adapter if it is loaded, without loading it.

        Args:
            name: Name of the adapter.

        Returns:
            The adapter, or None if it is not loaded.
        """
        record = self._records.get(name)
        return None if record is None else record.loaded

    async def get(self, name: str) -> LoadedAdapter:
        """Returns an adapter, and loads it first if necessary.

        Args:
            name: Name of the adapter; it may come from an untrusted client.

        Returns:
            The loaded adapter.

        Raises:
            AdapterNotFound: If there is no adapter of that name.
            AdapterUnavailable: If its bundle cannot be used. The failure is cached until a retry is
                due or the bundle changes.
            NotReady: If it was unloaded by an administrator.
        """
        if (loaded := self.loaded(name)) is not None:
            return loaded
        record = await self._known(name)
        if record.is_off:
            raise switched_off(name)
        if (trouble := record.trouble) is not None and record.loading is None:
            wait = trouble.until - time.monotonic()
            same = wait > 0 and await asyncio.to_thread(self._loader.mark, name) == record.mark
            # The adapter may have been reloaded during the await above.
            if same and record.trouble is trouble and record.loading is None:
                raise record.unavailable(retry_after=wait)
        loaded = record.loaded or await self._loaded(record)
        if loaded is None:
            raise record.unavailable()
        return loaded

    async def load(self, name: str) -> LoadedAdapter:
        """Loads or reloads an adapter from its current bundle.

        The previous generation answers until the new one is ready, and stays if loading fails.

        Args:
            name: Name of the adapter.

        Returns:
            The loaded adapter.

        Raises:
            AdapterNotFound: If there is no adapter of that name.
            AdapterFailed: If its bundle cannot be used.
        """
        record = await self._known(name)
        if record.loading is not None:
            # The load in progress may have read the bundle before the caller changed it.
            await asyncio.wait([record.loading])
            record = await self._known(name)
        record.is_off = False
        loaded = await self._loaded(record)
        if loaded is None:
            raise record.failure()
        return loaded

    async def unload(self, name: str) -> None:
        """Unloads an adapter after its last pending request. Only `load` loads it again.

        Args:
            name: Name of the adapter.

        Raises:
            AdapterNotFound: If there is no adapter of that name.
        """
        record = await self._known(name)
        record.is_off = True
        if record.loading is not None:
            await asyncio.wait([record.loading])
        record.trouble = None
        await asyncio.shield(self._begin(self._drain(record, "asked")))

    def statuses(self) -> list[AdapterStatus]:
        """Returns the status of each adapter, sorted by name."""
        in_flight = self._uses.in_flight()
        return [record.status(in_flight[name]) for name, record in sorted(self._records.items())]

    @contextmanager
    def using(self, loaded: LoadedAdapter) -> Iterator[None]:
        """Marks an adapter as in use by a request for the duration of the context.

        Args:
            loaded: The adapter.
        """
        self._uses.begin(loaded)
        if record := self._records.get(loaded.name):
            record.use()
        try:
            yield
        finally:
            if self._uses.end(loaded) and self._is_crowded:
                self._make_room()

    def close(self) -> None:
        """Stops loading further adapters."""
        self._queued.clear()
        self._loader.close()

    # ---- Changes in the repository

    def _follow(self, name: str, mark: str) -> None:
        """Loads or unloads an adapter after a change of its bundle."""
        record = self._records.get(name)
        if not mark:
            if record is not None:
                self._begin(self._remove(record))
            return
        if record is None:
            record = self._add_record(name)
            busy = sum(one.loaded is not None or one.loading is not None for one in self._records.values())
            if busy + len(self._queued) >= self._settings.max_adapters and not record.is_pinned:
                # Do not evict a loaded adapter for one that nobody has requested.
                return
        self._queued[name] = mark
        self._load_queued()

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
            # Generation numbers are never reused, even if the bundle comes back.
            self._generations[record.name] = record.generation
        self._tell()

    async def _loaded(self, record: AdapterRecord) -> LoadedAdapter | None:
        """Loads an adapter, or waits for the load in progress; returns None on failure."""
        # A waiter that is cancelled must not cancel the load for the others.
        return await asyncio.shield(record.loading or self._start_loading(record))

    def _start_loading(self, record: AdapterRecord) -> asyncio.Task[LoadedAdapter | None]:
        if record.loading is None:
            self._records.setdefault(record.name, record)  # The record may have been removed in the meantime.
            record.loading = self._begin(self._load(record))
            self._tell()
        return record.loading

    def _load_queued(self) -> None:
        """Loads bundles that no request waits for, a few at a time, so that requests for others find a loader."""
        while self._queued and len(self._in_background) < _IN_BACKGROUND:
            name = next(iter(self._queued))
            mark = self._queued.pop(name)
            record = self._records.get(name)
            if record is None or record.is_off or record.loading is not None:
                continue
            if record.loaded is not None and record.mark == mark and record.trouble is None:
                continue
            if record.generation == 0 and not record.is_pinned and self._is_full:
                # As in `_follow`, if the adapters are large.
                continue
            task = self._start_loading(record)
            self._in_background.add(task)
            task.add_done_callback(self._loaded_in_background)

    def _loaded_in_background(self, task: asyncio.Task[Any]) -> None:
        self._in_background.discard(task)
        self._load_queued()

    async def _load(self, record: AdapterRecord) -> LoadedAdapter | None:
        """Loads a new generation and publishes it; returns None on failure."""
        start, generation = time.monotonic(), record.generation + 1
        replaces = None if self._settings.allow_label_changes else record.bundle
        try:
            mark, outcome = await self._loader.load(record.name, generation, replaces)
        finally:
            record.loading = None
        if isinstance(outcome, Failure):
            record.fail(outcome, mark)
            events.log("adapter_refused", level=logging.WARNING, adapter=record.name, reason=str(outcome))
            self._observer.adapter_failed(record.name, reason=str(outcome))
            if isinstance(outcome, AdapterNotFound) and record.loaded is None:
                self._forget(record)
            self._tell()
            return None
        event = "adapter_loaded" if record.loaded is None else "adapter_replaced"
        record.succeed(outcome, mark)
        seconds = time.monotonic() - start
        events.log(
            event,
            adapter=record.name,
            version=generation,
            sha256=outcome.bundle.content["files"]["adapter.safetensors"],
            seconds=round(seconds, 3),
        )
        self._observer.adapter_loaded(
            record.name, generation=generation, pinned=record.is_pinned, seconds=seconds
        )
        self._make_room(newest=record)
        self._tell()
        return outcome

    # ---- Unloading

    async def _drain(self, record: AdapterRecord, reason: str) -> None:
        """Withdraws an adapter and waits for its pending requests."""
        was_loaded, record.loaded = record.loaded is not None, None
        record.drains += 1
        self._tell()
        await self._uses.until_over(record.name)
        record.drains -= 1
        if was_loaded and record.loaded is None:
            self._unloaded(record, reason)
        self._tell()

    def _make_room(self, newest: AdapterRecord | None = None) -> None:
        """Unloads idle adapters above the limit, least recently used first."""
        loaded = [record for record in self._records.values() if record.loaded is not None]
        excess = len(loaded) - self._settings.max_adapters
        surplus = sum(record.bytes for record in loaded) - self._most_bytes
        if excess <= 0 and surplus <= 0:
            self._is_crowded = False
            return
        # An adapter whose new bundle cannot be used would not come back.
        idle = [
            record
            for record in loaded
            if not (
                record.is_pinned
                or record is newest
                or record.loading
                or record.trouble
                or record.loaded in self._uses
            )
        ]
        for record in sorted(idle, key=lambda one: one.used_at):
            if excess <= 0 and surplus <= 0:
                break
            excess, surplus = excess - 1, surplus - record.bytes
            record.loaded = None
            self._unloaded(record, "evicted")
        # Adapters in use are unloaded when their last request ends; see `using`.
        self._is_crowded = excess > 0 or surplus > 0
        self._tell()

    @property
    def _is_full(self) -> bool:
        """Whether one more adapter of the usual size would be too many for the memory."""
        sizes = [record.bytes for record in self._records.values() if record.loaded is not None]
        if not sizes:
            return False
        # Those that are being loaded need memory, too.
        coming = len(self._in_background) + 1
        return sum(sizes) * (len(sizes) + coming) / len(sizes) > self._most_bytes

    def _unloaded(self, record: AdapterRecord, reason: str) -> None:
        events.log("adapter_unloaded", adapter=record.name, version=record.generation, reason=reason)
        self._observer.adapter_unloaded(record.name, reason=reason)

    def _begin(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        # The event loop holds only weak references to tasks.
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell(self) -> None:
        counts = Counter(record.state for record in self._records.values())
        self._observer.adapters_changed({state: counts[state] for state in LOAD_STATES})
