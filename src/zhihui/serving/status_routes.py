"""Routes about the server itself: /health, /ready, /metrics, /info."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from zhihui import __version__
from zhihui.serving.answers import TEI_ERRORS, json_response
from zhihui.serving.models import ServedModel
from zhihui.serving.refusals import Refusal
from zhihui.serving.search_routes import described_indexes
from zhihui.serving.service import Service


def status_routes(service: Service) -> APIRouter:
    """Return the routes of a service."""
    router = APIRouter(tags=["Status"])

    @router.get("/health", responses={503: TEI_ERRORS[503]})
    async def health() -> Response:
        """Compute one token: answers only where calls are answered too."""
        await service.probe()
        return json_response({"status": "ok"})

    @router.get("/ready", responses={503: TEI_ERRORS[503]})
    async def ready() -> Response:
        """Tell whether new calls are taken; a load balancer asks this."""
        if service.draining:
            raise Refusal(503, "the server is ending", code="draining", retry_after=5)
        return json_response({"status": "ready"})

    @router.get("/metrics")
    async def metrics() -> Response:
        """Return the metrics for Prometheus."""
        return Response(service.metrics.shown(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/info", response_model=dict[str, Any], responses={status: TEI_ERRORS[status] for status in (401, 503)})
    async def info(request: Request) -> Response:
        """Describe the models, the indexes and the bounds."""
        config, first = service.config, service.models.default
        facts = {
            **_described(first),
            "model_id": first.source,
            "model_sha": first.fingerprint,
            "max_batch_tokens": first.budget,
            "max_client_batch_size": config.max_inputs,
            "max_body_bytes": config.max_body_bytes,
            "max_queue_tokens": config.queue_tokens,
            "auto_truncate": True,
            "token_ids": config.token_ids,
            "device": service.device,
            "workers": len(first.copies),
            "reranker": None if service.reranker is None else service.reranker.name,
            "models": [_described(model) for model in service.models],
            "indexes": await described_indexes(service, request),
            "version": __version__,
        }
        return json_response(facts)

    return router


def _described(model: ServedModel) -> dict[str, Any]:
    encoder = model.encoder
    return {
        "served_model_name": model.name,
        "model_dtype": str(encoder.dtype).removeprefix("torch."),
        "model_type": {"embedding": {"pooling": encoder.settings.pooling}},
        "dimension": encoder.dimension,
        "dimensions": model.lengths,
        "max_input_length": encoder.settings.max_length,
        "normalize": encoder.settings.normalize,
        "bidirectional": not encoder.is_causal,
        "prompts": encoder.settings.prompts,
        "fingerprint": model.fingerprint,
    }
