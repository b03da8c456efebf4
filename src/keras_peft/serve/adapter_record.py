"""What is known of one adapter's name: whether it is loaded, being loaded, or why it is not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from keras_peft.serve.failures import AdapterFailed, Failure

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.serve.loaded_adapter import LoadedAdapter

LoadState = Literal["UNLOADED", "LOADING", "READY", "DRAINING", "FAILED"]
LOAD_STATES: tuple[LoadState, ...] = ("UNLOADED", "LOADING", "READY", "DRAINING", "FAILED")


@dataclass(frozen=True, slots=True)
class AdapterStatus:
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
    state: LoadState
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


@dataclass(frozen=True, slots=True)
class RetryDelay:
    """After how many seconds a bundle that failed is tried again.

    Attributes:
        soonest: After the first failure; it is twice as long after each further one.
        latest: At most.
    """

    soonest: float = 1.0
    latest: float = 300.0

    def wait(self, times: int) -> float:
        """Returns the seconds after a bundle has failed so many times in a row."""
        return min(self.latest, self.soonest * 2.0 ** min(times - 1, 30))


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """Why an adapter was not loaded, how often in a row, and until when it is not tried again."""

    failure: Failure
    times: int
    until: float


@dataclass(eq=False, slots=True)
class AdapterRecord:
    """What is known of a name.

    Attributes:
        name: The name.
        is_pinned: Whether it stays loaded when it is idle.
        retry: When it is tried again after it failed.
        mark: The fingerprint of the bundle at the last attempt.
        loaded: The generation that answers.
        loading: The attempt that goes on now.
        generation: The last generation; 0 if there was none.
        bundle: What its bundle.json said when it was loaded last.
        trouble: Why the last attempt failed.
        last_used: When it was last used or loaded, in seconds since 1970.
        drains: How many wait for its last requests.
        is_off: Whether it was unloaded by order.
    """

    name: str
    is_pinned: bool
    retry: RetryDelay
    mark: str = ""
    loaded: LoadedAdapter | None = None
    loading: asyncio.Task[LoadedAdapter | None] | None = None
    generation: int = 0
    bundle: Bundle | None = None
    trouble: LoadFailure | None = None
    last_used: float | None = None
    drains: int = 0
    is_off: bool = False

    @property
    def state(self) -> LoadState:
        """How it stands."""
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

    def succeed(self, loaded: LoadedAdapter, mark: str) -> None:
        """Puts a new generation in the place of the one before."""
        self.mark, self.loaded, self.generation, self.bundle = mark, loaded, loaded.generation, loaded.bundle
        self.trouble, self.last_used = None, time.time()

    def fail(self, failure: Failure, mark: str) -> None:
        """Remembers a failed attempt, the longer the more often the same bundle failed."""
        times = 1 if self.trouble is None or self.mark != mark else self.trouble.times + 1
        self.mark = mark
        self.trouble = LoadFailure(failure, times, time.monotonic() + self.retry.wait(times))

    def failure(self, *, retry_after: float | None = None) -> Failure:
        """Makes the error of the last attempt anew, for whoever asks."""
        if self.trouble is None:
            return AdapterFailed(f"The adapter {self.name!r} was not loaded; try again.")
        message = str(self.trouble.failure)
        if self.loaded is not None:
            message += f" Its generation {self.generation} goes on answering."
        return type(self.trouble.failure)(message, retry_after=retry_after)

    def status(self, in_flight: int) -> AdapterStatus:
        """Returns how it stands, for others to read.

        Args:
            in_flight: Requests that read with it now.
        """
        return AdapterStatus(
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
