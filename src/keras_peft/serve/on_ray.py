"""Serving on Ray: replicas of the server behind Ray's HTTP proxies.

Each replica is a whole server with all adapters. The folder of bundles says what is served: every replica watches it,
so a replica that replaces a lost one serves the same adapters.

    serve run keras_peft.serve.on_ray:app bundles=/shared/bundles replicas=4
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import signal
import threading
import time
import typing
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_peft import cluster
from keras_peft._version import __version__
from keras_peft.errors import OptionError, did_you_mean, reason_of
from keras_peft.extras import need
from keras_peft.serve import events
from keras_peft.serve.settings import ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI
    from prometheus_client import Metric

    from keras_peft.serve.adapter_record import AdapterStatus
    from keras_peft.serve.http.startup import StartupEvents
    from keras_peft.serve.keys import Keys

APPLICATION = "keras-peft"
"""Name of the application in Ray Serve."""
DEPLOYMENT = "server"
"""Name of its only deployment."""
_WHAT = "Serving on Ray"
# The line of an exception in a traceback.
_ERROR = re.compile(r"\s*[\w.]*(Error|keras_peft\.errors\.\w+): ")
# Seconds for the other replicas to answer.
_PATIENCE = 5.0
# Seconds until they are asked again.
_PAUSE = 0.1
# Seconds for a replica to answer that has just started.
_LONG = 60.0
# Seconds between two checks of a replica that is to end for whether it has pending requests.
_CHECKING = 0.5


@dataclass(frozen=True, kw_only=True)
class RaySettings:
    """Settings of the replicas.

    Args:
        replicas: Number of replicas; with `max_replicas`, the smallest number.
        max_replicas: Largest number of replicas. Ray starts and ends replicas by the number of requests that wait or
            run. None for a fixed number.
        cores: Number of cores of a replica.
    """

    replicas: int = 1
    max_replicas: int | None = None
    cores: int = 1

    def __post_init__(self) -> None:
        for name in ("replicas", "cores"):
            if getattr(self, name) < 1:
                raise OptionError(f"`{name}={getattr(self, name)}`: expected 1 or more.")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise OptionError(
                f"`max_replicas={self.max_replicas}`: expected at least `replicas={self.replicas}`."
            )


def app(arguments: Mapping[str, Any]) -> Any:
    """Builds the application for `serve run`, `serve deploy` and RayService.

    Its address is that of Ray's proxies, which other machines can usually reach, so it needs API keys, or
    `without_keys=true`.

    Args:
        arguments: `bundles`, a path or a list of paths, and the fields of `ServeSettings` and `RaySettings`, except
            `host` and `port`. Strings are converted.

    Returns:
        The application.

    Raises:
        OptionError: If an argument is unknown or has a wrong value.
        BundleError: If the bundles have different base models.

    Example:
        >>> from ray import serve
        >>> serve.run(app({"bundles": "/shared/bundles", "replicas": 4, "without_keys": True}))
    """
    given = dict(arguments)
    bundles = given.pop("bundles", [])
    known = {one.name for owner in (ServeSettings, RaySettings) for one in fields(owner)} - {
        "host",
        "port",
    }
    for name in given:
        if name not in known:
            raise OptionError(f"Unknown argument {name!r}.{did_you_mean(name, known)}")
    places = [Path(one) for one in ([bundles] if isinstance(bundles, str) else bundles)]
    settings = replace(_converted(ServeSettings, given), host="0.0.0.0")
    return build(places, settings, _converted(RaySettings, given))


def build(places: Sequence[Path], settings: ServeSettings, replicas: RaySettings) -> Any:
    """Builds the application.

    API keys are read here, and only their digests are sent to the replicas.

    Args:
        places: Folders of bundles, or bundles. All machines have to see them at the same paths.
        settings: Settings of the servers.
        replicas: Settings of the replicas.

    Returns:
        An application of Ray Serve.

    Raises:
        ExtraNotInstalled: If a package is not installed.
        OptionError: If a setting cannot be used.
        BundleError: If the bundles have different base models.
    """
    if not settings.watch_s:
        raise OptionError(
            "`watch_s=0`: expected more on Ray, where each replica has to notice changes of the bundles by itself."
        )
    need(_WHAT, "ray", "fastapi", "uvicorn", "prometheus_client", "threadpoolctl")
    from ray import serve
    from ray.serve.schema import LoggingConfig

    from keras_peft.serve.base_name import base_of
    from keras_peft.serve.keys import Keys, check_exposure
    from keras_peft.serve.repository import Repository

    keys = Keys.read(settings.keys)
    check_exposure(settings, keys)
    paths = [place.absolute() for place in places]
    base_of(Repository(paths), settings.base)
    server = serve.deployment(
        serve.ingress()(Server),
        name=DEPLOYMENT,
        # The server itself limits the rows that wait or run.
        max_ongoing_requests=settings.max_queue,
        max_queued_requests=settings.max_queue,
        ray_actor_options={"num_cpus": replicas.cores},
        graceful_shutdown_timeout_s=settings.drain_timeout_s,
        graceful_shutdown_wait_loop_s=_CHECKING,
        # The server's own log has a line for each request.
        logging_config=LoggingConfig(enable_access_log=False),
        **_scale(settings, replicas),
    )
    return server.bind(paths, replace(settings, keys=None), keys)


def _scale(settings: ServeSettings, replicas: RaySettings) -> dict[str, Any]:
    if replicas.max_replicas is None:
        return {"num_replicas": replicas.replicas}
    return {
        "autoscaling_config": {
            "min_replicas": replicas.replicas,
            "initial_replicas": replicas.replicas,
            "max_replicas": replicas.max_replicas,
            # What one batch can hold; further requests wait for the next batch.
            "target_ongoing_requests": settings.max_batch_rows,
        }
    }


class Server:
    """A replica: the whole server, without its own port.

    Args:
        places: Folders of bundles, or bundles.
        settings: Settings of the server.
        keys: API keys of the server.
    """

    def __init__(self, places: Sequence[Path], settings: ServeSettings, keys: Keys) -> None:
        from keras_peft.serve.http import ray_proxy
        from keras_peft.serve.http.process import create_context
        from keras_peft.serve.http.startup import StartupEvents

        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # JAX takes it for the address of a network proxy, and warns.
        os.environ.pop(ray_proxy.VARIABLE, None)
        _log_to_stderr()

        self._context = create_context(places, settings, keys, StartupEvents())
        self._context.replicas = _Others()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Creates the application; Ray starts its lifespan before the replica gets requests."""
        from keras_peft.serve.http.app import create

        found = create(self._context)
        found.router.lifespan_context = self._running
        return found

    async def check_health(self) -> None:
        """Tells Ray to replace a replica that hangs.

        Raises:
            RuntimeError: If it hangs.
        """
        if not self._context.is_alive:
            raise RuntimeError("The workers are stuck.")

    async def families(self) -> tuple[str, list[Metric]]:
        """Returns the name of the replica, and its metrics."""
        return _own_name(), self._context.metrics.families()

    async def statuses(self) -> list[AdapterStatus]:
        """Returns the status of each adapter."""
        return self._context.service.adapters.statuses()

    async def look(self) -> None:
        """Checks the bundles for changes."""
        await self._context.service.adapters.look()

    @asynccontextmanager
    async def _running(self, _: FastAPI) -> AsyncIterator[None]:
        service = self._context.service
        await service.start(at_once=True)
        gc.collect()
        gc.freeze()
        try:
            yield
        finally:
            # Ray has waited for the pending requests.
            self._context.draining = True
            await service.stop(timeout=0)


class _Others:
    """The other replicas of a replica; see `Replicas`."""

    def __init__(self) -> None:
        self._handle: Any = None

    async def families(self, own: Sequence[Metric]) -> list[Metric]:
        from keras_peft.serve.metrics import merged

        found = {_own_name(): own}
        found.update(one for one in await self._asked("families") if isinstance(one, tuple))
        return merged(found)

    async def look(self) -> None:
        await self._asked("look")

    async def _asked(self, method: str) -> list[Any]:
        """Calls a method of all replicas; returns the results, and an exception for those that do not answer."""
        from ray import serve
        from ray.serve.exceptions import DeploymentUnavailableError

        if self._handle is None:
            place = serve.get_replica_context()
            self._handle = serve.get_deployment_handle(place.deployment, place.app_name)
        try:
            async with asyncio.timeout(_PATIENCE):
                while True:
                    answers = self._handle.broadcast(method)
                    try:
                        return list(await answers.results_async(return_exceptions=True))
                    except DeploymentUnavailableError:  # A new handle does not know the replicas yet.
                        await asyncio.sleep(_PAUSE)
        except Exception as error:  # Ray's errors have no common class. Those replicas are being replaced.
            logging.getLogger(__name__).warning("Other replicas do not answer (%s).", type(error).__name__)
            return []


def _own_name() -> str:
    from ray import serve

    return str(serve.get_replica_context().replica_id.unique_id)


def _log_to_stderr() -> None:
    """Sends the server's own log to stderr, as lines of JSON; the other logs are Ray's."""
    from keras_peft.serve.http.logs import JsonFormatter

    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("keras_peft")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)


def _converted(owner: type, given: Mapping[str, Any]) -> Any:
    """Creates settings from arguments of a command or a file.

    Raises:
        OptionError: If a value has the wrong type, or is not allowed.
    """
    from pydantic import TypeAdapter, ValidationError

    hints, values = typing.get_type_hints(owner), {}
    for name in [one.name for one in fields(owner) if one.name in given]:
        value = given[name]
        try:
            values[name] = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            raise OptionError(f"`{name}={value!r}`: {error.errors()[0]['msg']}.") from None
    return owner(**values)


def serve(
    places: Sequence[Path],
    settings: ServeSettings,
    replicas: RaySettings,
    start: StartupEvents | None = None,
) -> None:
    """Serves bundles on Ray until the process receives a signal.

    If the process is killed, the replicas of a cluster that it has joined go on, and the same call takes them over.

    Args:
        places: Folders of bundles, or bundles. All machines have to see them at the same paths.
        settings: Settings of the servers. Ray's proxies listen at `host` and `port`.
        replicas: Settings of the replicas.
        start: Callbacks for the startup.

    Raises:
        ExtraNotInstalled: If a package is not installed.
        OptionError: If a setting cannot be used, or Ray or its replicas do not start.
        BundleError: If the bundles have different base models.
    """
    from keras_peft.serve.http.startup import StartupEvents

    start = start or StartupEvents()
    if not settings.port:
        raise OptionError("`port=0`: expected the number of a port on Ray.")
    events.log("starting", version=__version__, pid=os.getpid(), bundles=[str(place) for place in places])
    built = build(places, settings, replicas)
    start.stage("Starting Ray, or joining it")
    with cluster.joined(_WHAT) as ray, _signalled() as stopping:
        from ray import serve as ray_serve

        _start_proxies(settings)
        cores = int(ray.cluster_resources().get("CPU", 0))
        count = f"{replicas.replicas} replica{'' if replicas.replicas == 1 else 's'}"
        start.stage(f"Starting {count} on Ray, each with {replicas.cores} of {cores} cores")
        try:
            handle = ray_serve.run(built, name=APPLICATION, route_prefix="/")
            statuses = handle.statuses.remote().result(timeout_s=_LONG)
        except Exception as error:  # Ray raises RuntimeError with the traceback of a replica.
            raise OptionError(
                f"The replicas do not start ({_reason(error)}); Ray's logs say more."
            ) from error
        _started(places, settings, statuses, start)
        stopping.event.wait()
        events.log("stopping", signal=stopping.signal)
        begin = time.monotonic()
        # Ends the replicas after their pending requests.
        ray_serve.delete(APPLICATION)
    events.log("stopped", signal=stopping.signal, seconds=round(time.monotonic() - begin, 3))
    start.stopped()


def _started(
    places: Sequence[Path],
    settings: ServeSettings,
    statuses: Sequence[AdapterStatus],
    start: StartupEvents,
) -> None:
    """Reports that the replicas answer requests."""
    from keras_peft.serve.keys import Keys

    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"http://{host}:{settings.port}"
    start.listening(address, statuses, needs_key=bool(Keys.read(settings.keys)))
    events.log(
        "started",
        address=address,
        version=__version__,
        bundles=[str(place) for place in places],
        adapters=sum(one.state == "READY" for one in statuses),
        refused=sum(one.state == "FAILED" for one in statuses),
    )


def _start_proxies(settings: ServeSettings) -> None:
    """Starts Ray Serve, or joins it, and checks that it listens where the settings say.

    Raises:
        OptionError: If Ray Serve does not start, or listens elsewhere.
    """
    from ray import serve as ray_serve
    from ray.serve.context import _get_global_client

    from keras_peft.serve.http import logs
    from keras_peft.serve.http.ray_proxy import PATH, VARIABLE

    logs.configure()
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        ray_serve.start(
            proxy_location="EveryNode",
            http_options={"host": settings.host, "port": settings.port},
            # The processes that it starts inherit them.
            controller_options={"runtime_env": {"env_vars": {VARIABLE: PATH}}},
        )
        there = _get_global_client().http_config
    except Exception as error:  # Ray's errors have no common class.
        raise OptionError(f"Ray Serve does not start ({reason_of(error)}); Ray's logs say why.") from error
    if (there.host, there.port) != (settings.host, settings.port):
        raise OptionError(
            f"Ray Serve already listens on `host={there.host}` and `port={there.port}` of this cluster; expected these "
            f"instead of `host={settings.host}` and `port={settings.port}`."
        )


def _reason(error: Exception) -> str:
    """Returns why a replica failed, which Ray tells only within the traceback in its status."""
    from ray import serve as ray_serve

    try:
        told = ray_serve.status().applications[APPLICATION].deployments[DEPLOYMENT].message
    except Exception:  # Ray may be lost.
        told = ""
    found = [line for line in told.splitlines() if _ERROR.match(line)]
    return found[-1].partition(": ")[2].rstrip(".") if found else reason_of(error)


@dataclass
class _Stopping:
    """Whether a signal has come.

    Attributes:
        event: Set by the first signal.
        signal: Its name.
    """

    event: threading.Event = field(default_factory=threading.Event)
    signal: str = ""


@contextmanager
def _signalled() -> Iterator[_Stopping]:
    """Yields what the first signal changes; the second ends the process as before."""
    stopping = _Stopping()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: Any) -> None:
        restore()
        stopping.signal = signal.Signals(number).name
        stopping.event.set()

    for number in before:
        signal.signal(number, stop)
    try:
        yield stopping
    finally:
        restore()
