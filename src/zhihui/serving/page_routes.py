"""The page: search, comparison and similarity in a browser, at /. Its files hold nothing secret and need no key."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

from zhihui.serving.refusals import Refusal

_FOLDER = Path(__file__).parent / "page"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_HEADERS = {
    # Nothing from elsewhere, nothing inline: what is in a passage stays text even where a script forgets to say so.
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_FILES = tuple(sorted(path.name for path in _FOLDER.iterdir() if path.suffix in _TYPES))
PAGE_ROUTES = ("/", *(f"/page/{name}" for name in _FILES))
"""The paths of the page and its files."""


def page_routes() -> APIRouter:
    """Return the routes of the page."""
    router = APIRouter(include_in_schema=False)
    responses = {name: (_FOLDER / name).read_bytes() for name in _FILES}

    @router.get("/")
    async def page() -> Response:
        """Return the page."""
        return _response("index.html", responses["index.html"])

    @router.get("/page/{name}")
    async def file(name: str) -> Response:
        """Return a file of the page."""
        if name not in responses:
            raise Refusal(404, "there is no such file")
        return _response(name, responses[name])

    return router


def _response(name: str, content: bytes) -> Response:
    return Response(content, headers=_HEADERS, media_type=_TYPES[Path(name).suffix])
