"""A server as one process: from folders with bundles to a port that answers, and to its end.

The port is bound before anything is loaded and listened at when all is, so that whoever can
connect is answered. On a signal to end, the server is not ready any more and answers on for
`pre_stop_s`; then it takes no new connections and finishes what it has, for `drain_timeout_s` at
most. A second signal ends it at once.
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

# How often the start is told of, in seconds.
_TELLING = 0.1
# After how long a thread lets others run Python, in seconds.
_SWITCHING = 0.0005


class StartupEvents:
    """Gets the news of a server's start; the methods do nothing and are there to be overridden."""

    def stage(self, text: str) -> None:
        """A stage begins, such as "Loading the base minilm"."""

    def importing(self, base: str) -> AbstractContextManager[Any]:
        """Returns a context in which Keras and its backend are imported, for a base of that name."""
        return nullcontext()

    def loading(self, *, done: int, adapters: int) -> None:
        """So many of the adapters are loaded, or cannot be; told again and again."""

    def listening(self, address: str, adapters: Sequence[AdapterStatus], *, needs_key: bool) -> None:
        """The server answers at an address, with these adapters."""


def serve(places: Sequence[Path], settings: ServeSettings, start: StartupEvents | None = None) -> bool:
    """Serves bundles until the process is told to end.

    Args:
        places: Folders of bundles, and bundles.
        settings: The rest.
        start: Who is told how the start goes.

    Returns:
        Whether it ended in order; False where a second signal cut that short.

    Raises:
        OptionError: If the settings, the keys or the port cannot be used.
        BundleError: If the bundles are of different bases.
        BaseError: If the base cannot be loaded.
    """
    start = start or StartupEvents()
    keys = Keys.read(settings.keys)
    check_exposure(settings, keys)
    with bind(settings.host, settings.port) as listener:
        repository = Repository(places)
        base = base_of(repository, settings.base)
        start.stage(f"Loading the base {base}")
        with start.importing(base):
            from keras_peft.serve.engines import keras as runtime
        engine = runtime.start(base, settings)
        # The heads' small products gain nothing from threads, which spin and take the base's time.
        threadpoolctl.threadpool_limits(1, user_api="blas")
        # Nor do the few texts of a request.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        # A worker that comes back from the runtime shall not wait 5 ms for the loop's thread.
        sys.setswitchinterval(_SWITCHING)
        metrics = Metrics(base=shown_name(engine.base.name), base_sha256=engine.base.sha256)
        service = Service.create(repository, engine, settings, metrics)
        context = ServerContext(service, settings, keys, metrics)
        logs.configure()
        server = Server(create(context), context)
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            return runner.run(_serve(server, listener, start))


async def _serve(server: Server, listener: socket.socket, start: StartupEvents) -> bool:
    """Loads the adapters, answers, and ends."""
    service = server.context.service
    telling = asyncio.create_task(_tell(service.adapters, start))
    await service.start()
    telling.cancel()
    # A full collection would walk over all that was imported and loaded, while everybody waits.
    gc.collect()
    gc.freeze()
    host, port = listener.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    start.listening(address, service.adapters.statuses(), needs_key=bool(server.context.keys))
    await server.serve(sockets=[listener])
    if server.force_exit:
        return False
    # What could be answered in time has been.
    await service.stop(timeout=0)
    return True


async def _tell(adapters: Adapters, start: StartupEvents) -> None:
    """Tells again and again how many adapters are loaded."""
    while True:
        states = adapters.statuses()
        start.loading(done=sum(one.state in ("READY", "FAILED") for one in states), adapters=len(states))
        await asyncio.sleep(_TELLING)


class Server(uvicorn.Server):
    """Uvicorn's server, which ends in two steps.

    Args:
        app: The application.
        context: What it has in common with its routes.
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
        """Begins to end on the first signal, and ends on the second."""
        if self._asked is not None:
            self.should_exit = self.force_exit = True
            return
        self.context.draining = True
        self._asked = time.monotonic()

    async def on_tick(self, counter: int) -> bool:
        """Ends when balancers have had time to see that it is not ready."""
        if self._asked is not None and time.monotonic() - self._asked >= self.context.settings.pre_stop_s:
            self.should_exit = True
        return await super().on_tick(counter)


def bind(host: str, port: int) -> socket.socket:
    """Takes a port, at which nobody is answered yet.

    Raises:
        OptionError: If it cannot be had.
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
            f"`host={host}` and `port={port}` cannot be listened at ({error.strerror}); choose others: `port=0` takes "
            "one that is free."
        ) from None
    return taken


def base_of(repository: Repository, chosen: str | None) -> str:
    """Finds the base that all bundles are of.

    Args:
        repository: Where they lie.
        chosen: The base's place, if a user told it.

    Raises:
        OptionError: If there are no bundles that name one.
        BundleError: If they are of different bases.
    """
    found: dict[str, list[str]] = defaultdict(list)
    names: dict[str, str] = {}
    for name in repository.names():
        try:
            base = bundles.read(repository.folder(name)).content["base"]
            sha256, called = str(base["sha256"]), str(base["name"])
        except Exception:  # Whatever is wrong with it is told when it is loaded, and keeps no other from it.
            continue
        found[sha256].append(name)
        names[sha256] = called
    if len(found) > 1:
        parts = "; ".join(f"{listed(own, most=5)} of {names[sha]}" for sha, own in found.items())
        raise BundleError(
            f"One server serves bundles of one base, and these are of {len(found)}: {parts}. Part them."
        )
    if chosen is None and not found:
        raise OptionError("There is no bundle yet that names its base; name it with `base`.")
    return chosen or next(iter(names.values()))
