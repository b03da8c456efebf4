"""The short way to the routes that read a body."""

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
    """ASGI middleware, the innermost: finds the route of a POST and calls it.

    These routes read their bodies and write their answers themselves. What FastAPI does around a
    route takes longer than they do and changes nothing for them; it describes them, and has the
    say where nothing is found here.

    Args:
        app: The application behind it.
        routes: All routes, in their order; those that do not take POST are left to the application.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute]) -> None:
        self._app = app
        posted = [
            route for route in routes if isinstance(route, APIRoute) and "POST" in (route.methods or ())
        ]
        self._named = [route for route in posted if route.param_convertors]
        self._fixed = {route.path: route for route in posted if not route.param_convertors}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the route, or the application behind it."""
        # A span that is recorded gets its name and its times from the framework.
        if scope.get("method") == "POST" and not trace.get_current_span().is_recording():
            route, names = self._find(scope["path"])
            if route is not None:
                scope["route"] = route
                response = await route.endpoint(request=Request(scope, receive), **names)
                await response(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _find(self, path: str) -> tuple[APIRoute | None, dict[str, str]]:
        """Finds the route of a path, and what the path names."""
        if route := self._fixed.get(path):
            return route, {}
        for route in self._named:
            if found := route.path_regex.match(path):
                return route, found.groupdict()
        return None, {}
