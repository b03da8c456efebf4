"""The application of Ray Serve: the replicas and their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from keras_peft import cluster
from keras_peft.errors import OptionError, did_you_mean
from keras_peft.extras import need
from keras_peft.serve.on_ray.replica import Server
from keras_peft.serve.on_ray.settings import RaySettings, converted
from keras_peft.serve.settings import ServeSettings

APPLICATION = "keras-peft"
"""Name of the application in Ray Serve."""
DEPLOYMENT = "server"
"""Name of its only deployment."""
WHAT = "Serving on Ray"
"""The feature, for the message if a package is not installed."""
# Seconds between two checks of a replica that is to end for whether it has pending requests.
_CHECKING = 0.5


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
    settings = replace(converted(ServeSettings, given), host="0.0.0.0")
    return build(places, settings, converted(RaySettings, given))


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
    need(WHAT, "ray", "fastapi", "uvicorn", "prometheus_client", "threadpoolctl")
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
        ray_actor_options={"num_cpus": replicas.cores, "num_gpus": replicas.gpus},
        graceful_shutdown_timeout_s=settings.drain_timeout_s,
        graceful_shutdown_wait_loop_s=_CHECKING,
        # The server's own log has a line for each request.
        logging_config=LoggingConfig(enable_access_log=False),
        **_scale(settings, replicas),
    )
    # Replicas run in another folder.
    return server.bind(paths, replace(settings, keys=None, base=cluster.absolute(settings.base)), keys)


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
