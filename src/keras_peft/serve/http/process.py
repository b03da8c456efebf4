"""The server process: startup, signals and shutdown.

The port is bound before the adapters are loaded, and the server listens once all are loaded, so
that every connection is answered. After a signal the server reports not ready but still accepts
requests for `pre_stop_s`. It then refuses new connections and finishes pending requests, for up to
`drain_timeout_s`. A second signal ends it immediately.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import threadpoolctl
import uvicorn
from fastapi import FastAPI

from keras_peft import bundle as bundles
from keras_peft.errors import BundleError, OptionError, listed
from keras_peft.serve.http import logs
from keras_peft.serve.http.app import create
from keras_peft.serve.http.context import ServerContext
from keras_peft.serve.http.limits import protocol
from keras_peft.serve.keys import Keys, check_exposure
from keras_peft.serve.metrics import Metrics
from keras_peft.serve.repository import Repository, shown_name
from keras_peft.serve.service import Service
from keras_peft.serve.settings import ServeSettings

if TYPE_CHECKING:
    from keras_peft.serve.adapter_record import AdapterStatus
    from keras_peft.serve.adapters import Adapters

# Interval between progress events during startup, in seconds.
_TELLING = 0.1
# Python's thread switch interval, in seconds.
_SWITCHING = 0.0005


class StartupEvents:
    """Callbacks for the startup of a server.

    The methods do nothing by default; override those you need.
    """

    def stage(self, text: str) -> None:
        """Called when a stage begins.

        Args:
            text: Description of the stage, such as "Loading the base model minilm".
        """

    def importing(self, base: str) -> AbstractContextManager[Any]:
        """Returns a context manager that wraps the import of Keras and its backend.

        Args:
            base: Name of the base model that is loaded afterwards.
        """
        return nullcontext()

    def loading(self, *, done: int, adapters: int) -> None:
        """Called repeatedly while the adapters are loaded.

        Args:
            done: Number of adapters that are loaded or have failed.
            adapters: Total number of adapters.
        """

    def listening(self, address: str, adapters: Sequence[AdapterStatus], *, needs_key: bool) -> None:
        """Called when the server starts to answer requests.

        Args:
            address: URL of the server.
            adapters: Status of each adapter.
            needs_key: Whether requests need an API key.
        """


def serve(places: Sequence[Path], settings: ServeSettings, start: StartupEvents | None = None) -> bool:
    """Serves bundles until the process receives a signal.

    Args:
        places: Folders of bundles, or bundles.
        settings: Settings of the server.
        start: Callbacks for the startup.

    Returns:
        True after a graceful shutdown, False if a second signal cut it short.

    Raises:
        OptionError: If the settings, API keys or port cannot be used.
        BundleError: If the bundles have different base models.
        BaseError: If the base model cannot be loaded.
    """
    start = start or StartupEvents()
    keys = Keys.read(settings.keys)
    check_exposure(settings, keys)
    with bind(settings.host, settings.port) as listener:
        repository = Repository(places)
        base = base_of(repository, settings.base)
        start.stage(f"Loading the base model {base}")
        with start.importing(base):
            from keras_peft.serve.engines import keras as runtime
        engine = runtime.start(base, settings)
        # The heads' matrices are too small for BLAS threads, which spin and take time from the base
        # model.
        threadpoolctl.threadpool_limits(1, user_api="blas")
        # Tokenizing a few texts gains nothing from threads either.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # With Python's default of 5 ms, a worker waits too long to get the GIL back from the event
        # loop.
        sys.setswitchinterval(_SWITCHING)
        metrics = Metrics(base=shown_name(engine.base.name), base_sha256=engine.base.sha256)
        service = Service.create(repository, engine, settings, metrics)
        context = ServerContext(service, settings, keys, metrics)
        logs.configure()
        server = Server(create(context), context)
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            return runner.run(_serve(server, listener, start))


async def _serve(server: Server, listener: socket.socket, start: StartupEvents) -> bool:
    """Loads the adapters, serves requests and shuts down."""
    service = server.context.service
    telling = asyncio.create_task(_tell(service.adapters, start))
    await service.start()
    telling.cancel()
    # Keeps later full collections from scanning everything imported and loaded during startup,
    # which would stall all requests.
    gc.collect()
    gc.freeze()
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    start.listening(address, service.adapters.statuses(), needs_key=bool(server.context.keys))
    await server.serve(sockets=[listener])
    if server.force_exit:
        return False
    # Uvicorn has already waited for the pending requests.
    await service.stop(timeout=0)
    return True


async def _tell(adapters: Adapters, start: StartupEvents) -> None:
    """Reports the number of loaded adapters until cancelled."""
    while True:
        states = adapters.statuses()
        start.loading(done=sum(one.state in ("READY", "FAILED") for one in states), adapters=len(states))
        await asyncio.sleep(_TELLING)


class Server(uvicorn.Server):
    """Uvicorn server with a two-step shutdown.

    Args:
        app: The application.
        context: State of the server.
    """

    def __init__(self, app: FastAPI, context: ServerContext) -> None:
        settings = context.settings
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol(settings),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=math.ceil(settings.idle_timeout_s),
                timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s),
            )
        )
        self.context = context
        self._asked: float | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Starts the shutdown on the first signal, and ends immediately on the second.

        Args:
            sig: Number of the signal.
            frame: Interrupted stack frame.
        """
        if self._asked is not None:
            self.should_exit = self.force_exit = True
            return
        self.context.draining = True
        self._asked = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Ends the server once `pre_stop_s` has passed since the first signal.

        Args:
            counter: Tick counter of Uvicorn.

        Returns:
            Whether the server should exit.
        """
        if self._asked is not None and time.monotonic() - self._asked >= self.context.settings.pre_stop_s:
            self.should_exit = True
        return await super().on_tick(counter)


def bind(host: str, port: int) -> socket.socket:
    """Binds a port without listening on it.

    Args:
        host: Address or host name.
        port: Port number; 0 picks a free port.

    Returns:
        The bound socket.

    Raises:
        OptionError: If the port cannot be bound.
    """
    taken: socket.socket | None = None
    try:
        family, kind, number, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        taken = socket.socket(family, kind, number)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except OSError as error:
        if taken is not None:
            taken.close()
        raise OptionError(
            f"Cannot listen on `host={host}` and `port={port}` ({error.strerror}); choose others, or "
            "set `port=0` to pick a free port."
        ) from None
    return taken


def base_of(repository: Repository, chosen: str | None) -> str:
    """Returns the base model that all bundles share.

    Args:
        repository: Repository of the bundles.
        chosen: Base model that the user chose, or None.

    Returns:
        `chosen`, or else the base model that the bundles name.

    Raises:
        OptionError: If `chosen` is None and no bundle names a base model.
        BundleError: If the bundles have different base models.
    """
    found: dict[str, list[str]] = defaultdict(list)
    names: dict[str, str] = {}
    for name in repository.names():
        try:
            base = bundles.read(repository.folder(name)).content["base"]
            sha256, called = str(base["sha256"]), str(base["name"])
        except Exception:  # Loading the bundle reports the error; the other bundles are not affected.
            continue
        found[sha256].append(name)
        names[sha256] = called
    if len(found) > 1:
        parts = "; ".join(f"{listed(own, most=5)} of {names[sha]}" for sha, own in found.items())
        raise BundleError(
            f"All bundles of a server must have the same base model, but these have {len(found)}: "
            f"{parts}. Serve them separately."
        )
    if chosen is None and not found:
        raise OptionError("No bundle names its base model yet; set `base`.")
    return chosen or next(iter(names.values()))
