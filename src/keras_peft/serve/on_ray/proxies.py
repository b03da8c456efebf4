"""Ray's HTTP proxies, which listen for the replicas."""

from __future__ import annotations

import logging
import os
from typing import Any

from keras_peft.errors import OptionError, reason_of
from keras_peft.serve import events
from keras_peft.serve.settings import ServeSettings

# Ray's names of its proxies.
_NAMESPACE, _NAME = "serve", "SERVE_PROXY_ACTOR"
# Seconds for the proxies to answer.
_PATIENCE = 10.0


def start_proxies(settings: ServeSettings) -> None:
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


def check_middleware(ray: Any) -> None:
    """Logs a warning if proxies were started without the middleware, by whoever started Ray Serve.

    Args:
        ray: The module.
    """
    from keras_peft.serve.http.ray_proxy import PATH, VARIABLE

    if missing := proxies_without_middleware(ray):
        events.log(
            "middleware_missing",
            level=logging.WARNING,
            proxies=missing,
            reason="Ray Serve was started without the middleware of keras-peft, so requests of a lost replica get 500 "
            "instead of 503 with Retry-After; end it with `serve shutdown -y` and run this command again, or start Ray "
            f"with the environment variable {VARIABLE}={PATH}.",
        )


def proxies_without_middleware(ray: Any) -> int:
    """Returns the number of proxies that do not have the middleware.

    Args:
        ray: The module.
    """
    from keras_peft.serve.http.ray_proxy import PATH

    found = ray.util.list_named_actors(all_namespaces=True)
    names = [one["name"] for one in found if one["namespace"] == _NAMESPACE and one["name"].startswith(_NAME)]
    try:
        proxies = [ray.get_actor(name, namespace=_NAMESPACE) for name in names]
        asked = [proxy.__ray_call__.remote(_own_middleware) for proxy in proxies]
        return sum(one != PATH for one in ray.get(asked, timeout=_PATIENCE))
    except (ray.exceptions.RayError, ValueError):  # A proxy ends or starts just now.
        return 0


def _own_middleware(proxy: Any) -> str | None:
    """Returns the import path of the middleware of the proxy in whose process this runs."""
    from keras_peft.serve.http.ray_proxy import VARIABLE

    return os.environ.get(VARIABLE)
