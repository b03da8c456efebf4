"""A fast path to the POST routes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from fastapi.routing import APIRoute
from opentelemetry import trace
from starlette.requests import Request

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Receive, Scope, Send


class DirectRoutes:
    """Innermost ASGI middleware: dispatches POST requests directly to their routes.

    POST routes parse their own bodies and build their own responses. FastAPI's request handling
    would take longer than the routes themselves and add nothing. FastAPI still documents the routes
    and handles all requests without a match here.

    Args:
        app: The wrapped application.
        routes: All routes, in order of precedence. Routes without POST are left to the application.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        posted = [
            route for route in routes if isinstance(route, APIRoute) and "POST" in (route.methods or ())
        ]
        self._named = [route for route in posted if route.param_convertors]
        self._fixed = {route.path: route for route in posted if not route.param_convertors}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Calls the matching route, or the wrapped application if there is none.

        Args:
            scope: ASGI scope.
            receive: ASGI receive function.
            send: ASGI send function.
        """
        # The framework sets the name and times of recorded spans.
        if scope.get("method") == "POST" and not trace.get_current_span().is_recording():
            route, names = self._find(scope["path"])
            if route is not None:
                scope["route"] = route
                response = await route.endpoint(request=Request(scope, receive), **names)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _find(self, path: str) -> tuple[APIRoute | None, dict[str, str]]:
        """Returns the route of a path and its path parameters."""
        if route := self._fixed.get(path):
            return route, {}
        for route in self._named:
            if found := route.path_regex.match(path):
                return route, found.groupdict()
        return None, {}
