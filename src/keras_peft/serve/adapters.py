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

from keras_peft.serve.changes import Changes
from keras_peft.serve.entry import STATES, AdapterState, Entry, Retry
from keras_peft.serve.failures import AdapterNotFound, Failure, NotReady
from keras_peft.serve.loading import Loader, Run
from keras_peft.serve.observer import Observer
from keras_peft.serve.uses import Uses

if TYPE_CHECKING:
    from keras_peft.serve.engines._engine import Engine
    from keras_peft.serve.loaded import Loaded
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
        ...     ran = await batcher.submit([Row(ids, news)], deadline=deadline)
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
        retry: Retry | None = None,
    ) -> None:
        self._repository, self._settings = repository, settings
        self._observer, self._retry = observer or Observer(), retry or Retry()
        self._entries: dict[str, Entry] = {}
        self._loader = Loader(repository, engine, run, settling=settling)
        self._changes = Changes(repository, self._entries, settling)
        self._generations: dict[str, int] = {}
        self._uses = Uses()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._has_started = self._is_crowded = False

    @property
    def is_ready(self) -> bool:
        """Whether the first look is over and all that were given themselves can answer."""
        given = [self._entries.get(name) for name in self._repository.given]
        return self._has_started and all(entry is not None and entry.loaded is not None for entry in given)

    async def start(self) -> None:
        """Loads what there is, as far as there is room. What fails is in `states`, and nothing is raised.

        Raises:
            OSError: If a folder with bundles cannot be looked at.
        """
        for name in sorted(self._repository.given):
            self._follow(name, "given")
        for name, mark in (await self._changes.now()).items():
            self._follow(name, mark)
        if running := [entry.loading for entry in self._entries.values() if entry.loading is not None]:
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

    def loaded(self, name: str) -> Loaded | None:
        """Returns an adapter if it can answer at once."""
        entry = self._entries.get(name)
        return None if entry is None else entry.loaded

    async def get(self, name: str) -> Loaded:
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
        entry = await self._known(name)
        if entry.is_off:
            raise NotReady(
                f"The adapter {name!r} was unloaded by order; whoever administers the server can load it again."
            )
        if (trouble := entry.trouble) is not None and entry.loading is None:
            wait = trouble.until - time.monotonic()
            same = wait > 0 and await asyncio.to_thread(self._loader.mark, name) == entry.mark
            # Meanwhile it may have been loaded again, or be just now.
            if same and entry.trouble is trouble and entry.loading is None:
                raise entry.failure(retry_after=wait)
        return entry.loaded or await self._loaded(entry)

    async def load(self, name: str) -> Loaded:
        """Loads an adapter, or loads it anew as it lies there now.

        The generation of before answers until the new one can, and goes on if that fails.

        Raises:
            AdapterNotFound: If there is none of that name.
            AdapterFailed: If its bundle cannot be used.
        """
        entry = await self._known(name)
        if entry.loading is not None:
            # That one may have read what was there before the caller wrote.
            await asyncio.wait([entry.loading])
            entry = await self._known(name)
        entry.is_off = False
        return await self._loaded(entry)

    async def unload(self, name: str) -> None:
        """Unloads an adapter when the last request with it is answered; only `load` brings it back.

        Raises:
            AdapterNotFound: If there is none of that name.
        """
        entry = await self._known(name)
        entry.is_off = True
        if entry.loading is not None:
            await asyncio.wait([entry.loading])
        entry.trouble = None
        await asyncio.shield(self._begin(self._drain(entry, "asked")))

    def states(self) -> list[AdapterState]:
        """Says how each adapter stands, by name."""
        in_flight = self._uses.in_flight()
        return [entry.shown(in_flight[name]) for name, entry in sorted(self._entries.items())]

    @contextmanager
    def using(self, loaded: Loaded) -> Iterator[None]:
        """Counts a request that reads with an adapter, for as long as the context lasts."""
        self._uses.begin(loaded)
        if entry := self._entries.get(loaded.name):
            entry.last_used = time.time()
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
        entry = self._entries.get(name)
        if not mark:
            if entry is not None:
                self._begin(self._remove(entry))
            return
        if entry is None:
            entry = self._enter(name)
            busy = sum(one.loaded is not None or one.loading is not None for one in self._entries.values())
            if busy >= self._settings.max_adapters and not entry.is_pinned:
                # None that is in use goes for one that nobody has asked for.
                return
        self._start_loading(entry)

    async def _remove(self, entry: Entry) -> None:
        await self._drain(entry, "removed")
        if entry.loaded is None and entry.loading is None:
            self._forget(entry)

    # ---- Loading

    async def _known(self, name: str) -> Entry:
        if name not in self._entries:
            await asyncio.to_thread(self._repository.folder, name)
        return self._entries.get(name) or self._enter(name)

    def _enter(self, name: str) -> Entry:
        entry = self._entries[name] = Entry(name, is_pinned=name in self._repository.given, retry=self._retry)
        entry.generation = self._generations.get(name, 0)
        return entry

    def _forget(self, entry: Entry) -> None:
        if self._entries.get(entry.name) is entry:
            del self._entries[entry.name]
            # One that comes back shall not have a generation that was another.
            self._generations[entry.name] = entry.generation
        self._tell()

    async def _loaded(self, entry: Entry) -> Loaded:
        # Who waits and goes away takes the loading from nobody else.
        loaded = await asyncio.shield(entry.loading or self._start_loading(entry))
        if loaded is None:
            raise entry.failure()
        return loaded

    def _start_loading(self, entry: Entry) -> asyncio.Task[Loaded | None]:
        if entry.loading is None:
            self._entries.setdefault(entry.name, entry)  # It may have been forgotten just now.
            entry.loading = self._begin(self._load(entry))
            self._tell()
        return entry.loading

    async def _load(self, entry: Entry) -> Loaded | None:
        """Loads a new generation and puts it in place; gives none where that failed."""
        start, generation = time.monotonic(), entry.generation + 1
        try:
            mark, outcome = await self._loader.load(entry.name, generation)
        finally:
            entry.loading = None
        if isinstance(outcome, Failure):
            entry.fail(outcome, mark)
            _log.warning("%s", outcome)
            self._observer.adapter_failed(entry.name, reason=str(outcome))
            if isinstance(outcome, AdapterNotFound) and entry.loaded is None:
                self._forget(entry)
            self._tell()
            return None
        entry.succeed(outcome, mark)
        seconds = time.monotonic() - start
        self._observer.adapter_loaded(
            entry.name, generation=generation, pinned=entry.is_pinned, seconds=seconds
        )
        self._make_room(newest=entry)
        self._tell()
        return outcome

    # ---- Unloading

    async def _drain(self, entry: Entry, reason: str) -> None:
        """Lets nobody use an adapter any more and waits for those who do."""
        was_loaded, entry.loaded = entry.loaded is not None, None
        entry.drains += 1
        self._tell()
        await self._uses.until_over(entry.name)
        entry.drains -= 1
        if was_loaded and entry.loaded is None:
            self._observer.adapter_unloaded(entry.name, reason=reason)
        self._tell()

    def _make_room(self, newest: Entry | None = None) -> None:
        """Unloads idle adapters above the limit, those first that were not used for the longest time."""
        loaded = [entry for entry in self._entries.values() if entry.loaded is not None]
        excess = len(loaded) - self._settings.max_adapters
        idle = [
            entry
            for entry in loaded
            if not (entry.is_pinned or entry is newest or entry.loading or entry.loaded in self._uses)
        ]
        for entry in sorted(idle, key=lambda one: one.last_used or 0.0)[: max(0, excess)]:
            entry.loaded = None
            self._observer.adapter_unloaded(entry.name, reason="evicted")
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
        counts = Counter(entry.state for entry in self._entries.values())
        self._observer.adapters_changed({state: counts[state] for state in STATES})
