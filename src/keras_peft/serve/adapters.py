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
from collections.abc import Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from keras_peft.serve.failures import AdapterFailed, AdapterNotFound, Failure, NotReady
from keras_peft.serve.loading import Run, load
from keras_peft.serve.observer import Observer
from keras_peft.serve.tokenizers import Tokenizers

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.serve.engines._engine import Engine
    from keras_peft.serve.loaded import Loaded
    from keras_peft.serve.repository import Repository
    from keras_peft.serve.settings import ServeSettings

State = Literal["UNLOADED", "LOADING", "READY", "DRAINING", "FAILED"]
STATES: tuple[State, ...] = ("UNLOADED", "LOADING", "READY", "DRAINING", "FAILED")

_log = logging.getLogger(__name__)
# Bundles that are read at the same time: a slow one shall not keep all others waiting.
_LOADERS = 4
# After how many seconds what has changed has to look the same to be believed. A folder that is
# replaced is absent for an instant, and one that is copied grows.
_SETTLING = 0.2
# How often a bundle that changes while it is read is read again.
_ATTEMPTS = 3
# After how many seconds a bundle that failed is tried again: at first, and at most.
_SOONEST, _LATEST = 1.0, 300.0


@dataclass(frozen=True, slots=True)
class AdapterState:
    """How an adapter stands.

    Attributes:
        name: Its name.
        state: `UNLOADED`, `LOADING`, `READY`, `DRAINING` or `FAILED`. One that is loaded anew
            stays `READY`, for the generation of before answers.
        generation: The one that answers, or that did so last; 0 if none ever did.
        reason: Why it was not loaded at the last attempt; empty where it was.
        pinned: Whether it stays loaded when it is idle.
        in_flight: Requests that read with it now, whatever the generation.
        last_used: When it was last used or loaded, in seconds since 1970; None if never.
        bytes: The memory of its tensors; 0 where it is not loaded.
        bundle: What its bundle.json said when it was loaded last; None if it never was.
    """

    name: str
    state: State
    generation: int
    reason: str
    pinned: bool
    in_flight: int
    last_used: float | None
    bytes: int
    bundle: Bundle | None

    @property
    def sha256(self) -> str:
        """The sha256 of its adapter.safetensors; empty if it was never loaded."""
        return "" if self.bundle is None else str(self.bundle.content["files"]["adapter.safetensors"])

    @property
    def task(self) -> str:
        """The name of its task; empty if it was never loaded."""
        return "" if self.bundle is None else str(self.bundle.content["task"])

    @property
    def labels(self) -> tuple[str, ...]:
        """What it can say."""
        return () if self.bundle is None else self.bundle.labels

    @property
    def methods(self) -> tuple[Mapping[str, Any], ...]:
        """Its methods, each with its name and options."""
        return () if self.bundle is None else tuple(part["method"] for part in self.bundle.content["parts"])


class Adapters:
    """The adapters of a server. All of it belongs to one event loop.

    Args:
        repository: Where the bundles lie. Those that were given themselves stay loaded.
        engine: The base.
        settings: The limits.
        observer: Is told of what is loaded and unloaded.
        run: How the first row of an adapter is run; by the engine itself by default.

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
    ) -> None:
        self._run = run
        self._repository, self._engine, self._settings = repository, engine, settings
        self._observer = observer or Observer()
        self._tokenizers = Tokenizers()
        self._entries: dict[str, _Entry] = {}
        self._generations: dict[str, int] = {}
        self._uses: dict[Loaded, _Use] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._pool = ThreadPoolExecutor(_LOADERS, thread_name_prefix="keras-peft-loader")
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
        for name, mark in (await self._changes()).items():
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
        if not (changes := await self._changes()):
            return
        await asyncio.sleep(_SETTLING)
        again = await self._changes()
        for name, mark in changes.items():
            if again.get(name) == mark:
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
            same = wait > 0 and await asyncio.to_thread(self._mark, name) == entry.mark
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
        in_flight = Counter[str]()
        for loaded, use in self._uses.items():
            in_flight[loaded.name] += use.count
        return [entry.shown(in_flight[name]) for name, entry in sorted(self._entries.items())]

    @contextmanager
    def using(self, loaded: Loaded) -> Iterator[None]:
        """Counts a request that reads with an adapter, for as long as the context lasts."""
        use = self._uses.get(loaded)
        if use is None:
            use = self._uses[loaded] = _Use()
        use.count += 1
        if entry := self._entries.get(loaded.name):
            entry.last_used = time.time()
        try:
            yield
        finally:
            use.count -= 1
            if not use.count:
                del self._uses[loaded]
                use.over.set()
                if self._is_crowded:
                    self._make_room()

    def close(self) -> None:
        """Begins to load nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    # ---- What the bundles ask for

    async def _changes(self) -> dict[str, str]:
        """Finds the bundles that something has to be done about, with their fingerprints; empty for absent ones."""
        there = await asyncio.to_thread(self._repository.fingerprints)
        absent = {name: "" for name, entry in self._entries.items() if not (name in there or entry.loading)}
        changed = {
            name: mark
            for name, mark in there.items()
            if name not in self._entries or self._entries[name].wants_loading(mark)
        }
        return absent | changed

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

    async def _remove(self, entry: _Entry) -> None:
        await self._drain(entry, "removed")
        if entry.loaded is None and entry.loading is None:
            self._forget(entry)

    # ---- Loading

    async def _known(self, name: str) -> _Entry:
        if name not in self._entries:
            await asyncio.to_thread(self._repository.folder, name)
        return self._entries.get(name) or self._enter(name)

    def _enter(self, name: str) -> _Entry:
        entry = self._entries[name] = _Entry(name, is_pinned=name in self._repository.given)
        entry.generation = self._generations.get(name, 0)
        return entry

    def _forget(self, entry: _Entry) -> None:
        if self._entries.get(entry.name) is entry:
            del self._entries[entry.name]
            # One that comes back shall not have a generation that was another.
            self._generations[entry.name] = entry.generation
        self._tell()

    async def _loaded(self, entry: _Entry) -> Loaded:
        # Who waits and goes away takes the loading from nobody else.
        loaded = await asyncio.shield(entry.loading or self._start_loading(entry))
        if loaded is None:
            raise entry.failure()
        return loaded

    def _start_loading(self, entry: _Entry) -> asyncio.Task[Loaded | None]:
        if entry.loading is None:
            self._entries.setdefault(entry.name, entry)  # It may have been forgotten just now.
            entry.loading = self._begin(self._load(entry))
            self._tell()
        return entry.loading

    async def _load(self, entry: _Entry) -> Loaded | None:
        """Loads a new generation and puts it in place; gives none where that failed."""
        start, generation = time.monotonic(), entry.generation + 1
        loop = asyncio.get_running_loop()
        try:
            mark, outcome = await loop.run_in_executor(self._pool, self._read, entry.name, generation)
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
        entry.mark, entry.loaded, entry.generation, entry.bundle = mark, outcome, generation, outcome.bundle
        entry.trouble, entry.last_used = None, time.time()
        seconds = time.monotonic() - start
        self._observer.adapter_loaded(
            entry.name, generation=generation, pinned=entry.is_pinned, seconds=seconds
        )
        self._make_room(newest=entry)
        self._tell()
        return outcome

    def _read(self, name: str, generation: int) -> tuple[str, Loaded | Failure]:
        """Reads a bundle, in a thread; again where it changed meanwhile."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_SETTLING)
            mark = self._mark(name)
            try:
                folder = self._repository.folder(name)
                return mark, load(folder, name, generation, self._engine, self._tokenizers, self._run)
            except Failure as error:
                # Without its frames, which hold what was read.
                failure = error.with_traceback(None)
            if mark and mark == self._mark(name):
                break
        return mark, failure

    def _mark(self, name: str) -> str:
        try:
            return self._repository.fingerprint(name)
        except AdapterNotFound:
            return ""

    # ---- Unloading

    async def _drain(self, entry: _Entry, reason: str) -> None:
        """Lets nobody use an adapter any more and waits for those who do."""
        was_loaded, entry.loaded = entry.loaded is not None, None
        uses = [use for loaded, use in self._uses.items() if loaded.name == entry.name]
        entry.drains += 1
        self._tell()
        for use in uses:
            await use.over.wait()
        entry.drains -= 1
        if was_loaded and entry.loaded is None:
            self._observer.adapter_unloaded(entry.name, reason=reason)
        self._tell()

    def _make_room(self, newest: _Entry | None = None) -> None:
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


@dataclass(eq=False, slots=True)
class _Use:
    """Requests that read with one generation."""

    count: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why an adapter was not loaded, how often in a row, and until when it is not tried again."""

    failure: Failure
    times: int
    until: float


@dataclass(eq=False, slots=True)
class _Entry:
    """What is known of a name.

    Attributes:
        mark: The fingerprint of the bundle at the last attempt.
        loaded: The generation that answers.
        loading: The attempt that goes on now.
        drains: How many wait for its last requests.
        is_off: Whether it was unloaded by order.
    """

    name: str
    is_pinned: bool
    mark: str = ""
    loaded: Loaded | None = None
    loading: asyncio.Task[Loaded | None] | None = None
    generation: int = 0
    bundle: Bundle | None = None
    trouble: _Trouble | None = None
    last_used: float | None = None
    drains: int = 0
    is_off: bool = False

    @property
    def state(self) -> State:
        if self.loaded is not None:
            return "READY"
        if self.loading is not None:
            return "LOADING"
        if self.drains:
            return "DRAINING"
        return "FAILED" if self.trouble is not None else "UNLOADED"

    def wants_loading(self, mark: str) -> bool:
        """Tells whether its bundle, by its fingerprint, has to be loaded now without anyone asking."""
        if self.loading is not None or self.is_off:
            return False
        if mark != self.mark:
            return self.loaded is not None or self.trouble is not None
        return self.trouble is not None and time.monotonic() >= self.trouble.until

    def fail(self, failure: Failure, mark: str) -> None:
        """Remembers a failed attempt, the longer the more often the same bundle failed."""
        again = self.trouble is not None and self.mark == mark
        times = self.trouble.times + 1 if again and self.trouble is not None else 1
        wait = min(_LATEST, _SOONEST * 2.0 ** min(times - 1, 30))
        self.trouble, self.mark = _Trouble(failure, times, time.monotonic() + wait), mark

    def failure(self, *, retry_after: float | None = None) -> Failure:
        """Makes the error of the last attempt anew, for whoever asks."""
        if self.trouble is None:
            return AdapterFailed(f"The adapter {self.name!r} was not loaded; try again.")
        message = str(self.trouble.failure)
        if self.loaded is not None:
            message += f" Its generation {self.generation} goes on answering."
        return type(self.trouble.failure)(message, retry_after=retry_after)

    def shown(self, in_flight: int) -> AdapterState:
        return AdapterState(
            name=self.name,
            state=self.state,
            generation=self.generation,
            reason="" if self.trouble is None else str(self.trouble.failure),
            pinned=self.is_pinned,
            in_flight=in_flight,
            last_used=self.last_used,
            bytes=0 if self.loaded is None else self.loaded.bytes,
            bundle=self.bundle,
        )
