"""The web page at / and the training reports that it links to.

The files need no API key, since a browser cannot send one with them, and contain nothing specific
to the server. The content security policies restrict the page to requests to this server, and
prevent reports from running scripts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import anyio
from fastapi import APIRouter, Request, Response

from keras_peft.serve.failures import AdapterNotFound
from keras_peft.serve.http.call import Call

router = APIRouter(tags=["Page"])

_FOLDER = Path(__file__).parent.parent / "page"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_OWN = f"{_NOTHING}; script-src 'self'; img-src 'self'; connect-src 'self'"
# Reports contain inline styles, and the frame that shows one inherits the policy of the page around
# it.
_POLICIES = {"report.html": f"{_OWN}; style-src 'self' 'unsafe-inline'; frame-src 'self'"}
_POLICY = f"{_OWN}; style-src 'self'; require-trusted-types-for 'script'"
_OF_A_REPORT = f"{_NOTHING}; style-src 'unsafe-inline'; sandbox"
_GUARDS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class _File:
    content: bytes
    headers: dict[str, str]


@cache
def _files() -> dict[str, _File]:
    """Returns the files of the page by path."""
    found = {}
    for file in _FOLDER.iterdir():
        if file.suffix not in _KINDS:
            continue
        content = file.read_bytes()
        headers = {
            **_GUARDS,
            "Content-Type": _KINDS[file.suffix],
            "Content-Security-Policy": _POLICIES.get(file.name, _POLICY),
            # Browsers may cache the file but must revalidate it.
            "Cache-Control": "no-cache",
            "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        }
        found["/" if file.name == "index.html" else f"/page/{file.name}"] = _File(content, headers)
    return found


def open_paths() -> frozenset[str]:
    """Returns the paths that need no API key."""
    return frozenset(_files())


@router.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)
@router.api_route("/page/{name}", methods=["GET", "HEAD"], include_in_schema=False)
async def file(request: Request, name: str | None = None) -> Response:
    """Send a file of the web page."""
    found = _files().get("/" if name is None else f"/page/{name}")
    if found is None:
        return Response("The web page has no such file.", 404, media_type="text/plain")
    if found.headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=found.headers)
    return Response(found.content, headers=found.headers)


@router.get(
    "/v1/adapters/{name}/report",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}, "description": "The training report, as an HTML page."}},
)
async def report(name: str, request: Request) -> Response:
    """Show the training report of an adapter."""
    loaded = await Call.of(request).adapter(name)
    path = anyio.Path(loaded.bundle.folder / "report.html")
    if not await path.is_file():
        raise AdapterNotFound("The bundle of this adapter has no report.html.")
    headers = {**_GUARDS, "Content-Security-Policy": _OF_A_REPORT, "Cache-Control": "no-store"}
    return Response(await path.read_bytes(), 200, headers, _KINDS[".html"])
