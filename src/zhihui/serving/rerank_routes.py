"""Reranking routes: TEI's shape for `texts`, Cohere's and Jina's for `documents`."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import Response

from zhihui.config import did_you_mean
from zhihui.encoder.prefixes import unit
from zhihui.serving.answers import OPENAI_ERRORS, TEI_ERRORS, json_response
from zhihui.serving.call import call_of
from zhihui.serving.prompting import choose
from zhihui.serving.refusals import MODEL_NOT_FOUND, Refusal, bad_input
from zhihui.serving.schemas import Document, Rank, RerankRequest, RerankResponse
from zhihui.serving.service import Group, Service


def rerank_routes(service: Service) -> APIRouter:
    """Return the routes of a service."""
    router = APIRouter(tags=["Rerank"])

    @router.post("/rerank", response_model=list[Rank] | RerankResponse, responses=TEI_ERRORS)
    @router.post("/v1/rerank", response_model=list[Rank] | RerankResponse, responses=OPENAI_ERRORS)
    async def rerank(body: RerankRequest, request: Request) -> Response:
        """Rank passages for a query, the best first."""
        if (body.texts is None) == (body.documents is None):
            raise bad_input("give the passages either as texts or as documents", param="documents")
        passages = [each.text if isinstance(each, Document) else each for each in body.texts or body.documents or []]
        ranking = await _ranked(service, request, body, passages)
        order = [int(index) for index in np.argsort(-ranking.scores, kind="stable")]
        headers = {**ranking.headers, "x-score-type": ranking.kind}
        if body.texts is not None:
            ranks = [{"index": index, "score": ranking.scores[index]} for index in order]
            if body.return_text:
                ranks = [{**rank, "text": passages[index]} for rank, index in zip(ranks, order, strict=True)]
            return json_response(ranks, headers)
        results: list[dict[str, Any]] = [
            {"index": index, "relevance_score": ranking.scores[index]} for index in order[: body.top_n]
        ]
        if body.return_documents:
            results = [{**result, "document": {"text": passages[result["index"]]}} for result in results]
        content = {
            "id": call_of(request).id,
            "model": ranking.model,
            "score_type": ranking.kind,
            "results": results,
            "usage": {"prompt_tokens": ranking.tokens, "total_tokens": ranking.tokens},
        }
        return json_response(content, headers)

    return router


class _Ranking:
    """The scores of passages `[N]` and where they come from."""

    def __init__(
        self, scores: NDArray[np.float32], tokens: int, headers: dict[str, str], *, model: str, kind: str
    ) -> None:
        self.scores, self.tokens, self.headers, self.model, self.kind = scores, tokens, headers, model, kind


async def _ranked(service: Service, request: Request, body: RerankRequest, passages: list[str]) -> _Ranking:
    """Score by the cross-encoder if there is one and no other model is asked for, else by an embedding's cosine."""
    service.check_count(len(passages))
    reranker = service.reranker
    if reranker is not None and body.model in (None, reranker.name):
        scores, tokens, headers = await service.score(request, body.query, passages, body.instruction)
        return _Ranking(scores, tokens, headers, model=reranker.name, kind="probability")
    try:
        model, role = service.models.find(body.model)
    except Refusal:
        known = [*service.models.by_name, *([] if reranker is None else [reranker.name])]
        message = f"model {(body.model or '')[:100]!r} is not served here; {did_you_mean(body.model, known)}"
        raise Refusal(404, message, param="model", code=MODEL_NOT_FOUND) from None
    if role is not None:
        raise bad_input("reranking has queries and documents; name the model without a role", param="model")
    groups = [
        Group([body.query], choose(model, role="query", instruction=body.instruction)),
        Group(passages, choose(model, role="document")),
    ]
    found = await service.embed(request, model, groups, body.cutting())
    vectors = unit(found.vectors)
    return _Ranking(vectors[1:] @ vectors[0], found.tokens, found.headers, model=model.name, kind="cosine")
