"""Serving on Ray: replicas of the server behind Ray's HTTP proxies.

Each replica is a whole server with all adapters. The folder of bundles says what is served: every replica watches it,
so a replica that replaces a lost one serves the same adapters.

    serve run keras_peft.serve.on_ray:app bundles=/shared/bundles replicas=4

settings.py        settings of the replicas
application.py     the application, for Ray's own tools and for `run.py`
replica.py         a replica: the whole server, without its own port
other_replicas.py  what a replica asks the others
run.py             serves until the process receives a signal
proxies.py         Ray's HTTP proxies, which listen for the replicas
start_failure.py   why replicas do not start
signals.py         waits for a signal
"""

from keras_peft.serve.on_ray.application import app

__all__ = ["app"]
