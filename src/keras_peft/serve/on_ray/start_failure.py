"""Why replicas do not start."""

from __future__ import annotations

import re

from keras_peft.errors import reason_of
from keras_peft.serve.on_ray.application import APPLICATION, DEPLOYMENT

# The line of an exception in a traceback.
_ERROR = re.compile(r"\s*[\w.]*(Error|keras_peft\.errors\.\w+): ")


def reason(error: Exception) -> str:
    """Returns why a replica failed, which Ray tells only within the traceback in its status."""
    from ray import serve as ray_serve

    try:
        told = ray_serve.status().applications[APPLICATION].deployments[DEPLOYMENT].message
    except Exception:  # Ray may be lost.
        told = ""
    found = [line for line in told.splitlines() if _ERROR.match(line)]
    return found[-1].partition(": ")[2].rstrip(".") if found else reason_of(error)
