"""The HTTP application: one router per protocol, behind shared middleware.

RequestLog      creates the `Call`, logs and counts it        logs.py
CORSMiddleware  CORS headers for the pages of other sites     sharing.py
Failures        turns exceptions into responses, in the       responses.py
                format of the protocol                        error_formats.py
ConnectionLimits refuses connections beyond the limits       connections.py
Authentication  API keys and cross-site requests              authentication.py
RateLimiting    requests per minute of each API key           rate_limits.py
BodyLimits      body size, timeouts and disconnects           limits.py
DirectRoutes    calls POST routes without the framework       direct.py
routes/         one protocol per file
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from keras_peft._version import __version__
from keras_peft.serve.http.authentication import PROBES, Authentication
from keras_peft.serve.http.connections import ConnectionLimits
from keras_peft.serve.http.context import ServerContext
from keras_peft.serve.http.direct import DirectRoutes
from keras_peft.serve.http.error_formats import FLAT
from keras_peft.serve.http.limits import BodyLimits
from keras_peft.serve.http.logs import RequestLog
from keras_peft.serve.http.rate_limits import RateLimiting
from keras_peft.serve.http.responses import Failures, refuse
from keras_peft.serve.http.routes import (
    adapters,
    document,
    explanation,
    hugging_face,
    kserve,
    metrics,
    openai,
    page,
    probes,
    repository,
    tei,
    tensorflow,
    triton,
    vllm,
)
from keras_peft.serve.http.sharing import sharing

_DESCRIPTION = (
    "Many adapters on one frozen base model. Depending on the protocol, an adapter is "
    "selected by `adapter_id`, `model` or the path. Errors have the format of the protocol."
)


def create(context: ServerContext) -> FastAPI:
    """Creates the application of a server.

    Args:
        context: State of the server. The caller starts and stops its service.

    Returns:
        An ASGI application.

    Example:
        >>> uvicorn.run(create(ServerContext(service, ServeSettings())), lifespan="off")
    """
    settings = context.settings
    open_paths = PROBES
    if settings.open_metrics:
        open_paths |= {"/metrics"}
    if settings.page:
        open_paths |= page.open_paths()
    routers = [
        tei.router,
        # OpenAI's route for a model would also match TensorFlow Serving's longer paths.
        tensorflow.router,
        openai.router,
        hugging_face.router,
        triton.router,
        kserve.router,
        explanation.router,
        adapters.router,
        repository.router,
        probes.router,
        metrics.router,
        document.router,
    ]
    if settings.admin:
        routers += [repository.control, vllm.control]
    if settings.page:
        routers.append(page.router)
    app = FastAPI(
        title="keras-peft",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url=None,
        redirect_slashes=False,
        # FastAPI's own metrics would duplicate ours, and its logs contain error messages.
        telemetry={"metrics": False, "logs": False},
        responses=FLAT.responses,
        exception_handlers={HTTPException: refuse},
        middleware=[
            Middleware(RequestLog, context=context),
            *sharing(settings),
            Middleware(Failures),
            Middleware(ConnectionLimits),
            Middleware(Authentication, context=context, open_paths=open_paths),
            Middleware(RateLimiting, context=context),
            Middleware(BodyLimits, settings=settings),
            Middleware(DirectRoutes, routes=[route for router in routers for route in router.routes]),
        ],
    )
    for router in routers:
        app.include_router(router)
    return app
