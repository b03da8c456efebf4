"""State of an adapter: loaded, loading, or why it is not loaded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from keras_peft.serve.failures import AdapterFailed, AdapterUnavailable, Failure, NotReady

if TYPE_CHECKING:
    from keras_peft.bundle import Bundle
    from keras_peft.serve.loaded_adapter import LoadedAdapter

LoadState = Literal["UNLOADED", "LOADING", "READY", "DRAINING", "FAILED"]
LOAD_STATES: tuple[LoadState, ...] = ("UNLOADED", "LOADING", "READY", "DRAINING", "FAILED")


@dataclass(frozen=True, slots=True)
class AdapterStatus:
    """Status of an adapter.

    Attributes:
        name: Name of the adapter.
        state: `UNLOADED`, `LOADING`, `READY`, `DRAINING` or `FAILED`. It stays `READY` during a
            reload, since the previous generation answers.
        generation: Generation that answers, or the last one that did; 0 if there is none.
        reason: Why the last load failed, or empty.
        pinned: Whether it stays loaded when it is idle.
        in_flight: Number of requests that use it, across all generations.
        last_used: Time of its last use or load, in seconds since 1970; None if there is none.
        bytes: Memory of its weights, in bytes; 0 if it is not loaded.
        bundle: Bundle that was loaded last; None if there is none.
        is_off: Whether it was unloaded by an administrator.
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
    is_off: bool = False

    @property
    def is_available(self) -> bool:
        """Whether requests can use the adapter, which is loaded first if necessary."""
        return self.unavailable() is None

    def unavailable(self) -> Failure | None:
        """Returns the failure of requests that need the adapter; None if it is available."""
        if self.state == "READY":
            return None
        if self.is_off:
            return switched_off(self.name)
        return AdapterUnavailable(self.reason) if self.reason else None

    @property
    def sha256(self) -> str:
        """SHA-256 of `adapter.safetensors`; empty if the adapter has never been loaded."""
        return "" if self.bundle is None else str(self.bundle.content["files"]["adapter.safetensors"])

    @property
    def task(self) -> str:
        """Name of the task; empty if the adapter has never been loaded."""
        return "" if self.bundle is None else str(self.bundle.content["task"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of the adapter; empty if it has never been loaded."""
        return () if self.bundle is None else self.bundle.labels

    @property
    def methods(self) -> tuple[Mapping[str, Any], ...]:
        """Adapter methods with their names and options; empty if it has never been loaded."""
        return () if self.bundle is None else tuple(part["method"] for part in self.bundle.content["parts"])


def switched_off(name: str) -> Failure:
    """Returns the failure of requests that need an adapter which an administrator unloaded.

    Args:
        name: Name of the adapter.
    """
    return NotReady(f"The adapter {name!r} was unloaded by an administrator, who can load it again.")


@dataclass(frozen=True, slots=True)
class RetryDelay:
    """Exponential backoff for bundles that fail to load.

    Attributes:
        soonest: Delay after the first failure, in seconds. It doubles with each further failure.
        latest: Maximum delay, in seconds.
    """

    soonest: float = 1.0
    latest: float = 300.0

    def wait(self, times: int) -> float:
        """Returns the delay before the next attempt, in seconds.

        Args:
            times: Number of consecutive failures, at least 1.
        """
        return min(self.latest, self.soonest * 2.0 ** min(times - 1, 30))


@dataclass(frozen=True, slots=True)
class LoadFailure:
    """The last failure to load, the number of consecutive failures, and the time of the next retry."""

    failure: Failure
    times: int
    until: float


@dataclass(eq=False, slots=True)
class AdapterRecord:
    """Mutable state of an adapter.

    Attributes:
        name: Name of the adapter.
        is_pinned: Whether it stays loaded when it is idle.
        retry: Delay before a failed load is retried.
        mark: Fingerprint of the bundle at the last attempt.
        loaded: Generation that answers.
        loading: Load in progress.
        generation: Number of the last generation; 0 if there is none.
        bundle: Bundle that was loaded last.
        trouble: Last failure, if the last load failed.
        last_used: Time of the last use or load, in seconds since 1970.
        used_at: The same on the clock of `time.monotonic`, which orders the uses even if the clock of
            the machine is set.
        drains: Number of unloads that wait for pending requests.
        is_off: Whether it was unloaded by an administrator.
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
    used_at: float = 0.0
    drains: int = 0
    is_off: bool = False

    @property
    def state(self) -> LoadState:
        """State of the adapter, as in `AdapterStatus`."""
        if self.loaded is not None:
            return "READY"
        if self.loading is not None:
            return "LOADING"
        if self.drains:
            return "DRAINING"
        return "FAILED" if self.trouble is not None else "UNLOADED"

    @property
    def bytes(self) -> int:
        """Memory of the weights, in bytes; 0 if it is not loaded."""
        return 0 if self.loaded is None else self.loaded.bytes

    def wants_loading(self, mark: str) -> bool:
        """Returns whether the bundle should be loaded without a request.

        That is the case if the bundle of a loaded or failed adapter has changed, or a retry is due.

        Args:
            mark: Current fingerprint of the bundle.
        """
        if self.loading is not None or self.is_off:
            return False
        if mark != self.mark:
            return self.loaded is not None or self.trouble is not None
        return self.trouble is not None and time.monotonic() >= self.trouble.until

    def succeed(self, loaded: LoadedAdapter, mark: str) -> None:
        """Replaces the current generation by a new one.

        Args:
            loaded: The new generation.
            mark: Fingerprint of its bundle.
        """
        self.mark, self.loaded, self.generation, self.bundle = mark, loaded, loaded.generation, loaded.bundle
        self.trouble = None
        self.use()

    def use(self) -> None:
        """Records the time of a use or load."""
        self.last_used, self.used_at = time.time(), time.monotonic()

    def fail(self, failure: Failure, mark: str) -> None:
        """Records a failed load. The retry delay grows while the same bundle keeps failing.

        Args:
            failure: The failure.
            mark: Fingerprint of the bundle.
        """
        times = 1 if self.trouble is None or self.mark != mark else self.trouble.times + 1
        self.mark = mark
        self.trouble = LoadFailure(failure, times, time.monotonic() + self.retry.wait(times))

    def failure(self) -> Failure:
        """Returns a new exception for the last failed load."""
        if self.trouble is None:
            return AdapterFailed(f"The adapter {self.name!r} was not loaded; try again.")
        message = str(self.trouble.failure)
        if self.loaded is not None:
            message += f" Its generation {self.generation} is still available."
        return type(self.trouble.failure)(message)

    def unavailable(self, *, retry_after: float | None = None) -> Failure:
        """Returns the failure of a request that needs the adapter, after a failed load.

        Args:
            retry_after: Time until the next retry, in seconds.
        """
        failure = self.failure()
        if isinstance(failure, AdapterFailed):
            return AdapterUnavailable(str(failure), retry_after=retry_after)
        return failure

    def status(self, in_flight: int) -> AdapterStatus:
        """Returns an immutable snapshot of the state.

        Args:
            in_flight: Number of requests that use the adapter.
        """
        return AdapterStatus(
            name=self.name,
            state=self.state,
            generation=self.generation,
            reason="" if self.trouble is None else str(self.trouble.failure),
            pinned=self.is_pinned,
            in_flight=in_flight,
            last_used=self.last_used,
            bytes=self.bytes,
            bundle=self.bundle,
            is_off=self.is_off,
        )
