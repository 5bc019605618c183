"""App: the routes of a service behind the gate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from zhihui import __version__
from zhihui.serving.gate import GONE, Gate
from zhihui.serving.keys import Keys
from zhihui.serving.openai_routes import openai_routes
from zhihui.serving.page_routes import PAGE_ROUTES, page_routes
from zhihui.serving.refusals import Refusal, bad_input
from zhihui.serving.rerank_routes import rerank_routes
from zhihui.serving.search_routes import search_routes
from zhihui.serving.service import Service
from zhihui.serving.status_routes import status_routes
from zhihui.serving.tei_routes import tei_routes


def build_app(service: Service, keys: Keys | None = None) -> Gate:
    """Return the ASGI app of a service; its lifespan starts and closes the service."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        service.close()

    # The pages of documentation would fetch scripts from elsewhere; the schema itself is at /openapi.json.
    app = FastAPI(
        title="zhihui",
        description="Chinese text embeddings and search over HTTP.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    for routes in (openai_routes, tei_routes, rerank_routes, search_routes, status_routes):
        app.include_router(routes(service))
    app.include_router(page_routes())
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)
    paths = app.openapi()["paths"]
    for route in paths.values():
        for operation in route.values():
            operation["responses"].pop("422", None)  # FastAPI's own answer to a wrong body; ours is a 400
    known = frozenset(paths) | {"/openapi.json", *PAGE_ROUTES}
    return Gate(app, service, keys or Keys([]), known)


async def _refused(request: Request, refusal: Any) -> Response:
    return refusal.response(request.url.path)


async def _gone(request: Request, error: Any) -> Response:
    return Response(status_code=GONE)  # for the log: nobody reads it


async def _invalid(request: Request, error: Any) -> Response:
    """Say which field is wrong; what was given is not repeated, it may be a text."""
    first = error.errors()[0]
    place = [str(each) for each in first["loc"] if each != "body"]
    field = place[0] if place else None
    if first["type"] == "json_invalid":
        return bad_input("the body is not JSON").response(request.url.path)
    if field is None and "json" not in request.headers.get("content-type", ""):
        return bad_input("the body is not marked as JSON; send Content-Type: application/json").response(
            request.url.path
        )
    if first["type"] == "missing" and field is None:
        return bad_input("the body is missing; send a JSON object").response(request.url.path)
    if field in ("input", "inputs") and first["type"] != "missing" and len(place) > 1:
        message = f"{field} must be a text, a list of texts, or token ids; no text may hold half a surrogate pair"
        return bad_input(message, param=field).response(request.url.path)
    message = f"{field or 'the body'}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return bad_input(message, param=field).response(request.url.path)


async def _http_error(request: Request, error: Any) -> Response:
    status = int(error.status_code)
    messages = {404: "there is no such route; see /openapi.json", 405: "this route takes another method"}
    message = messages.get(status, "the body cannot be read; send JSON in UTF-8")
    response = Refusal(status, message).response(request.url.path)
    response.headers.update(error.headers or {})
    return response


async def _failed(request: Request, error: Exception) -> Response:
    return Refusal(500, "the server failed; its log says where", code="internal").response(request.url.path)
