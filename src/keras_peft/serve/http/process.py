"""The server process: startup, signals and shutdown.

The port is bound before the base model is loaded, and the server listens once it can answer. It
loads many adapters in the background. After a signal the server reports not ready but still accepts
requests for `pre_stop_s`. It then accepts no new connections, answers the requests that are on
their way on the others, and closes each after its last response, within `drain_timeout_s`. A second
signal ends it immediately.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, cast

import threadpoolctl
import uvicorn
from fastapi import FastAPI

from keras_peft._version import __version__
from keras_peft.engines import KERAS, ONNX, chosen_engine
from keras_peft.errors import OptionError
from keras_peft.serve import events
from keras_peft.serve.base_name import base_of
from keras_peft.serve.http import logs
from keras_peft.serve.http.app import create
from keras_peft.serve.http.connections import Connections
from keras_peft.serve.http.context import ServerContext
from keras_peft.serve.http.protocol import Protocol, protocol
from keras_peft.serve.http.startup import StartupEvents
from keras_peft.serve.keys import Keys, check_exposure
from keras_peft.serve.metrics import Metrics
from keras_peft.serve.repository import Repository, shown_name
from keras_peft.serve.service import Service
from keras_peft.serve.settings import ServeSettings

if TYPE_CHECKING:
    from keras_peft.serve.engines._engine import Engine

# Interval between progress events during startup, in seconds.
_TELLING = 0.1
# Python's thread switch interval, in seconds.
_SWITCHING = 0.0005
# Interval between checks of the shutdown, in seconds.
_CHECKING = 0.02


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
    events.log("starting", version=__version__, pid=os.getpid(), bundles=[str(place) for place in places])
    keys = Keys.read(settings.keys)
    check_exposure(settings, keys)
    with bind(settings.host, settings.port) as listener:
        context = create_context(places, settings, keys, start)
        logs.configure()
        server = Server(create(context), context)
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            return runner.run(run(server, listener, places, start))


def create_context(
    places: Sequence[Path], settings: ServeSettings, keys: Keys, start: StartupEvents
) -> ServerContext:
    """Loads the base model and creates the state of a server, whose service is not started yet.

    Args:
        places: Folders of bundles, or bundles.
        settings: Settings of the server.
        keys: API keys of the server.
        start: Callbacks for the startup.

    Raises:
        OptionError: If the settings cannot be used.
        BundleError: If the bundles have different base models.
        BaseError: If the base model cannot be loaded.
    """
    repository = Repository(places)
    base = base_of(repository, settings.base)
    start.stage(f"Loading the base model {base}")
    engine = _started_engine(base, settings, start)
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
    return ServerContext(service, settings, keys, metrics)


def _started_engine(base: str, settings: ServeSettings, start: StartupEvents) -> Engine:
    """Starts the engine that suits the settings and the base model.

    Raises:
        OptionError: If the engine cannot run the base model.
        BaseError: If the base model cannot be loaded.
    """
    asked = {"bfloat16": KERAS, "int8": ONNX}.get(settings.precision, settings.engine)
    if chosen_engine(base, asked)[0] == ONNX:
        from keras_peft.serve.engines import onnx

        return onnx.start(base, settings)
    with start.importing(base):
        from keras_peft.serve.engines import keras
    return keras.start(base, settings)


async def run(server: Server, listener: socket.socket, places: Sequence[Path], start: StartupEvents) -> bool:
    """Loads the adapters, serves requests until a signal, and shuts down.

    Args:
        server: The server.
        listener: The bound socket.
        places: Folders of bundles, or bundles, for the log.
        start: Callbacks for the startup.

    Returns:
        As `serve`.
    """
    service = server.context.service
    # During the start too, signals must not raise exceptions: the event loop would log and ignore them.
    with server.capture_signals():
        if await _loaded(server, start):
            # Keeps later full collections from scanning everything imported and loaded during startup,
            # which would stall all requests.
            gc.collect()
            gc.freeze()
            freezing = asyncio.create_task(_freeze_adapters(service))
            server.on_listening = lambda: _started(server.context, _address(listener), places, start)
            await server.serve(sockets=[listener])
            freezing.cancel()
    if not server.force_exit:
        # Uvicorn has already waited for the pending requests.
        await service.stop(timeout=0)
    events.log(
        "stopped",
        signal=server.signal,
        seconds=None if server.asked is None else round(time.monotonic() - server.asked, 3),
        requests=server.server_state.total_requests,
        complete=not server.cut_short,
    )
    start.stopped()
    return not server.force_exit


async def _loaded(server: Server, start: StartupEvents) -> bool:
    """Loads the adapters and reports the progress; returns False if a signal ended it."""
    service = server.context.service
    loading = asyncio.create_task(service.start(at_once=True))
    while not loading.done():
        if server.asked is not None:
            server.tell_stopping()
            loading.cancel()
            await asyncio.wait([loading])
            return False
        states = service.adapters.statuses()
        start.loading(done=sum(one.state in ("READY", "FAILED") for one in states), adapters=len(states))
        await asyncio.wait([loading], timeout=_TELLING)
    await loading
    return True


async def _freeze_adapters(service: Service) -> None:
    """Spares the adapters that are loaded in the background from full collections, too."""
    await service.adapters.until_loaded()
    gc.freeze()


def _started(context: ServerContext, address: str, places: Sequence[Path], start: StartupEvents) -> None:
    """Reports that the server answers requests."""
    states = context.service.adapters.statuses()
    start.listening(address, states, needs_key=bool(context.keys))
    events.log(
        "started",
        address=address,
        version=__version__,
        bundles=[str(place) for place in places],
        base=context.base_name,
        engine=context.service.engine.name,
        adapters=sum(one.state == "READY" for one in states),
        refused=sum(one.state == "FAILED" for one in states),
    )


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class Server(uvicorn.Server):
    """Uvicorn server with a two-step shutdown.

    Args:
        app: The application.
        context: State of the server.

    Attributes:
        on_listening: Called when the server starts to answer requests.
        signal: Name of the signal that stops the server, or None.
        asked: Time of this signal, on the clock of `time.monotonic`, or None.
        cut_short: Whether the shutdown cancelled requests.
    """

    def __init__(self, app: FastAPI, context: ServerContext) -> None:
        settings = context.settings
        self.limits = Connections(settings)
        super().__init__(
            uvicorn.Config(
                app,
                http=protocol(context, self.limits),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=math.ceil(settings.idle_timeout_s),
            )
        )
        self.context = context
        self.on_listening: Callable[[], None] = lambda: None
        self.asked: float | None = None
        self.signal: str | None = None
        self.cut_short = False
        self._told = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Starts to listen, and calls `on_listening`.

        Args:
            sockets: The bound sockets.

        Raises:
            OptionError: If another process has started to listen on the port.
        """
        for one in sockets or []:
            try:
                one.listen(self.config.backlog)
            except OSError as error:
                raise cannot_listen(self.context.settings.host, self.context.settings.port, error) from None
        self.limits.fit()
        await super().startup(sockets)
        self.on_listening()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Starts the shutdown on the first signal, and ends immediately on the second.

        Args:
            sig: Number of the signal.
            frame: Interrupted stack frame.
        """
        if self.asked is not None:
            self.should_exit = self.force_exit = True
            return
        self.context.draining = True
        self.signal, self.asked = signal.Signals(sig).name, time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Closes unread connections, and ends the server `pre_stop_s` after the first signal.

        Args:
            counter: Tick counter of Uvicorn.

        Returns:
            Whether the server should exit.
        """
        self.limits.close_unread(time.monotonic())
        if self.asked is not None:
            self.tell_stopping()
            if time.monotonic() - self.asked >= self.context.settings.pre_stop_s:
                self.should_exit = True
        return await super().on_tick(counter)

    def tell_stopping(self) -> None:
        """Logs the signal and tells the connections, once; not in `handle_exit`, which may interrupt another call."""
        if not self._told:
            self._told = True
            events.log("stopping", signal=self.signal, pending=len(self.server_state.tasks))
            for connection in self._connections():
                connection.tell_draining()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers all requests that were accepted, for up to `drain_timeout_s`.

        Args:
            sockets: The bound sockets.
        """
        self.context.draining = True
        await self._stop_listening(sockets or [])
        for connection in self._connections():
            connection.shutdown()
        await self._until_over(self.context.settings.drain_timeout_s)
        self.cut_short = bool(self.server_state.tasks)
        for task in self.server_state.tasks:
            task.cancel()
        # Those requests get an error, which their clients have to read, too.
        await self._until_over(self.context.settings.linger_s)

    async def _stop_listening(self, sockets: Sequence[socket.socket]) -> None:
        """Accepts the connections that the system has already completed, and no more.

        Closing the port would reset these, although their clients may have sent requests.
        """
        copies = [one.dup() for one in sockets]
        for one in copies:
            # Clients that come now try again a second later, and are refused.
            one.listen(0)
        for server in self.servers:
            server.close()
        # The event loop must not accept from the same socket any more.
        await asyncio.sleep(0)
        for one in sockets:
            one.close()
        for one in copies:
            accepted = list(_accepted(one))
            one.close()
            for line in accepted:
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, line)

    def _protocol(self) -> Protocol:
        kind = cast("type[Protocol]", self.config.http_protocol_class)
        return kind(self.config, self.server_state, self.lifespan.state)

    def _connections(self) -> list[Protocol]:
        return cast("list[Protocol]", list(self.server_state.connections))

    async def _until_over(self, timeout: float) -> None:
        """Waits until all requests are answered and all connections closed, unless a second signal comes."""
        end = time.monotonic() + timeout
        while (self.server_state.connections or self.server_state.tasks) and time.monotonic() < end:
            if self.force_exit:
                return
            await asyncio.sleep(_CHECKING)


def _accepted(listener: socket.socket) -> Iterator[socket.socket]:
    """Accepts connections until none waits."""
    listener.setblocking(False)
    while True:
        try:
            yield listener.accept()[0]
        except OSError:
            return


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
        raise cannot_listen(host, port, error) from None
    return taken


def cannot_listen(host: str, port: int, error: OSError) -> OptionError:
    """Returns the error for a port that cannot be used.

    Args:
        host: Address or host name.
        port: Port number.
        error: The error of the system.
    """
    return OptionError(
        f"Cannot listen on `host={host}` and `port={port}` ({error.strerror}); choose others, or "
        "set `port=0` to pick a free port."
    )
