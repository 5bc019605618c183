"""Routes in OpenAI's shape: /v1/embeddings and /v1/models, with and without /v1."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from zhihui.encoder.prefixes import cut
from zhihui.serving.answers import OPENAI_ERRORS, json_response
from zhihui.serving.encodings import written
from zhihui.serving.models import ServedModel
from zhihui.serving.preparing import Input
from zhihui.serving.prompting import choose
from zhihui.serving.refusals import bad_input
from zhihui.serving.schemas import EmbeddingsRequest, EmbeddingsResponse, Inputs, ModelsResponse
from zhihui.serving.service import Group, Service


def openai_routes(service: Service) -> APIRouter:
    """Return the routes of a service."""
    router = APIRouter(tags=["OpenAI"], responses=OPENAI_ERRORS)
    started = int(time.time())

    @router.post("/v1/embeddings", response_model=EmbeddingsResponse)
    @router.post("/embeddings", response_model=EmbeddingsResponse)
    async def embeddings(body: EmbeddingsRequest, request: Request) -> Response:
        """Embed texts."""
        model, role = service.models.find(body.model)
        model.check_length(body.dimensions)
        inputs = read_inputs(body.input, service)
        prompting = choose(model, role=role, **body.prompting())
        check_prompt(inputs, prompting.text)
        found = await service.embed(request, model, [Group(inputs, prompting)], body.cutting())
        vectors = cut(found.vectors, body.dimensions)
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(
                written(vectors, body.output_dtype or "float", body.encoding_format or "float")
            )
        ]
        usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
        content = {"object": "list", "data": data, "model": body.model or model.name, "usage": usage}
        return json_response(content, found.headers)

    @router.get("/v1/models", response_model=ModelsResponse)
    @router.get("/models", response_model=ModelsResponse)
    async def models() -> Response:
        """List the models."""
        return json_response({"object": "list", "data": [_card(model, started) for model in service.models]})

    return router


def read_inputs(given: Inputs, service: Service) -> Sequence[Input]:
    """Return the inputs of a call as a list: texts, or token ids where the server takes them.

    Raises:
        Refusal: 400, none, too many, or token ids where the server does not take them.
    """
    if isinstance(given, str):
        return [given]
    service.check_count(len(given))
    inputs: list[Any] = [given] if isinstance(given[0], int) else list(given)
    if not isinstance(inputs[0], str) and not service.config.token_ids:
        raise bad_input(
            "the input is token ids, which are of some tokenizer, most likely not this model's; send texts (LangChain: "
            "OpenAIEmbeddings(check_embedding_ctx_length=False)), or start the server with --token-ids",
            param="input",
        )
    return inputs


def check_prompt(inputs: Sequence[Input], prompt: str) -> None:
    """Refuse a prompt for token ids: it is a text, and would have to stand before them.

    Raises:
        Refusal: 400, token ids with a prompt.
    """
    if prompt and not isinstance(inputs[0], str):
        raise bad_input("token ids take no prompt; put its tokens before them, or send texts", param="prompt_name")


def _card(model: ServedModel, started: int) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": started,
        "owned_by": "zhihui",
        "dimensions": model.encoder.dimension,
        "max_tokens": model.encoder.settings.max_length,
        "prompts": sorted(name for name, text in model.encoder.settings.prompts.items() if text),
        "fingerprint": model.fingerprint,
    }
