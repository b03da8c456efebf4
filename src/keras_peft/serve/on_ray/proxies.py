"""Ray's HTTP proxies, which listen for the replicas."""

from __future__ import annotations

import logging

from keras_peft.errors import OptionError, reason_of
from keras_peft.serve.settings import ServeSettings


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
