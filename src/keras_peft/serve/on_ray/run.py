"""Serves on Ray until the process receives a signal."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_peft import cluster
from keras_peft._version import __version__
from keras_peft.errors import OptionError
from keras_peft.serve import events
from keras_peft.serve.on_ray.application import APPLICATION, WHAT, build
from keras_peft.serve.on_ray.proxies import check_middleware, start_proxies
from keras_peft.serve.on_ray.settings import RaySettings
from keras_peft.serve.on_ray.signals import signalled
from keras_peft.serve.on_ray.start_failure import reason
from keras_peft.serve.settings import ServeSettings

if TYPE_CHECKING:
    from keras_peft.serve.adapter_record import AdapterStatus
    from keras_peft.serve.http.startup import StartupEvents

# Seconds for a replica to answer that has just started.
_LONG = 60.0


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
    with cluster.joined(WHAT) as ray, signalled() as stopping:
        from ray import serve as ray_serve

        start_proxies(settings)
        start.stage(_replicas_of(replicas, ray.cluster_resources()))
        try:
            handle = ray_serve.run(built, name=APPLICATION, route_prefix="/")
            statuses = handle.statuses.remote().result(timeout_s=_LONG)
        except Exception as error:  # Ray raises RuntimeError with the traceback of a replica.
            raise OptionError(f"The replicas do not start ({reason(error)}); Ray's logs say more.") from error
        check_middleware(ray)
        _started(places, settings, statuses, start)
        stopping.event.wait()
        events.log("stopping", signal=stopping.signal)
        begin = time.monotonic()
        # Ends the replicas after their pending requests.
        ray_serve.delete(APPLICATION)
    events.log("stopped", signal=stopping.signal, seconds=round(time.monotonic() - begin, 3))
    start.stopped()


def _replicas_of(replicas: RaySettings, resources: Mapping[str, float]) -> str:
    """Says how many replicas start, and what each has of a cluster."""
    count = f"{replicas.replicas} replica{'' if replicas.replicas == 1 else 's'}"
    share = f"{replicas.cores} of {int(resources.get('CPU', 0))} cores"
    gpus = int(resources.get("GPU", 0))
    if gpus or replicas.gpus:
        share += f" and {replicas.gpus:g} of {gpus} GPUs"
    return f"Starting {count} on Ray, each with {share}"


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
