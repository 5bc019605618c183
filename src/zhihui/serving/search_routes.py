"""Search routes: /search over the indexes, and their list."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from zhihui.errors import InputError
from zhihui.serving.answers import OPENAI_ERRORS, TEI_ERRORS, json_response
from zhihui.serving.call import Call, call_of
from zhihui.serving.indexes import QueryVector, ServedIndex
from zhihui.serving.prompting import choose
from zhihui.serving.refusals import bad_input
from zhihui.serving.search_schemas import IndexesResponse, SearchRequest, SearchResponse
from zhihui.serving.service import Group, Service, late

if TYPE_CHECKING:
    from zhihui.search import Hit

_WIDTH = 200
"""Characters of a snippet."""


def search_routes(service: Service) -> APIRouter:
    """Return the routes of a service."""
    router = APIRouter(tags=["Search"])

    @router.post("/search", response_model=SearchResponse, responses=TEI_ERRORS)
    async def search(body: SearchRequest, request: Request) -> Response:
        """Find the best passages for a query."""
        call = call_of(request)
        served = _wanted(service, body)
        query = body.query.strip()
        if not query:
            raise bad_input("the query is blank; write some words", param="query")
        call.facts.update(index=served.name, mode=body.mode)
        vector, tokens = None, 0
        if body.mode == "bm25":
            call.texts = [query] if service.config.log_texts else []
        else:
            prompting = choose(served.model, role="query", instruction=body.instruction)
            found = await service.embed(request, served.model, [Group([query], prompting)])
            vector, tokens = QueryVector(served.model, found.vectors[0]), found.tokens
        begun = time.monotonic()
        passages, hits = await _run(service, call, _search, served, query, vector, body)
        call.seconds["search"] = time.monotonic() - begun
        content = {
            "query": query,
            "index": served.name,
            "model": served.model.name,
            "mode": body.mode,
            "passages": passages,
            "truncated": bool(call.facts.get("truncated")),
            "stale": served.stale,
            "hits": hits,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            "timing": {
                f"{stage}_ms": round(1000 * seconds, 1)
                for stage, seconds in {**call.seconds, "total": call.age}.items()
            },
        }
        return json_response(content, call.headers(service.device))

    @router.get("/v1/indexes", response_model=IndexesResponse, responses=OPENAI_ERRORS)
    async def indexes(request: Request) -> Response:
        """List the indexes."""
        return json_response({"object": "list", "data": await described_indexes(service, request)})

    return router


async def described_indexes(service: Service, request: Request) -> list[dict[str, Any]]:
    """Return what callers are told of the indexes.

    Raises:
        Refusal: 503, it takes too long.
    """
    call = call_of(request)
    return [await _run(service, call, index.described) for index in service.indexes]


def _wanted(service: Service, body: SearchRequest) -> ServedIndex:
    if body.model is None:
        return service.indexes.find(body.index, None)
    model, role = service.models.find(body.model)
    if role == "document":
        raise bad_input("a search has a query; name the model without :document", param="model")
    return service.indexes.find(body.index, model)


async def _run(service: Service, call: Call, function: Any, *arguments: Any) -> Any:
    try:
        return await service.indexes.run(function, *arguments, seconds=call.remaining)
    except TimeoutError:
        raise late(call) from None


def _search(
    served: ServedIndex, query: str, vector: QueryVector | None, body: SearchRequest
) -> tuple[int, list[dict[str, Any]]]:
    """Return how many passages the index has, and the hits as they are shown.

    Raises:
        Refusal: 400, a filter that cannot be read.
    """
    index = served.newest()
    try:
        hits = index.search(
            query,
            encoder=vector,
            top_k=body.top_k,
            mode=body.mode,
            filters=body.filters,
            fusion=body.fusion,
            dense_share=body.dense_share,
        )
    except InputError as error:
        raise bad_input(str(error), param="filters") from None
    return len(index), [_shown(hit) for hit in hits]


def _shown(hit: Hit) -> dict[str, Any]:
    from zhihui.search.highlight import snippet

    scores = {name: getattr(hit, name) for name in ("dense", "bm25", "fused")}
    return {
        **asdict(hit),
        **{name: None if score is None else score._asdict() for name, score in scores.items()},
        "snippet": snippet(hit.text, hit.highlights, width=_WIDTH)._asdict(),
        "metadata": {name: _sendable(value) for name, value in hit.metadata.items()},
    }


def _sendable(value: Any) -> Any:
    """Return a value of a row as JSON that every client reads: whole numbers beyond 64 bits as text."""
    if isinstance(value, dict):
        return {name: _sendable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_sendable(each) for each in value]
    return str(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value
