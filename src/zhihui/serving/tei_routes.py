"""Routes in the shape of text-embeddings-inference: /embed, /similarity, /tokenize."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from zhihui.encoder.prefixes import cut, unit
from zhihui.serving.answers import TEI_ERRORS, json_response
from zhihui.serving.models import ServedModel
from zhihui.serving.openai_routes import check_prompt, read_inputs
from zhihui.serving.prompting import choose
from zhihui.serving.refusals import bad_input
from zhihui.serving.schemas import EmbedRequest, SimilarityParameters, SimilarityRequest, Token, TokenizeRequest
from zhihui.serving.service import Group, Service

_SHOWN = 100_000
"""Most characters whose tokens are shown in one call: a token takes some eighty bytes of JSON."""


def tei_routes(service: Service) -> APIRouter:
    """Return the routes of a service."""
    router = APIRouter(tags=["TEI"], responses=TEI_ERRORS)

    @router.post("/embed", response_model=list[list[float]])
    async def embed(body: EmbedRequest, request: Request) -> Response:
        """Embed texts: a bare list of vectors."""
        model, role = service.models.find(body.model)
        model.check_length(body.dimensions)
        if body.normalize is False and model.encoder.settings.normalize:
            raise bad_input(f"{model.name} gives unit vectors only; leave out normalize: false", param="normalize")
        inputs = read_inputs(body.inputs, service)
        prompting = choose(model, role=role, **body.prompting())
        check_prompt(inputs, prompting.text)
        found = await service.embed(request, model, [Group(inputs, prompting)], body.cutting())
        vectors = cut(found.vectors, body.dimensions)
        if body.normalize is not False and not model.encoder.settings.normalize:
            vectors = unit(vectors)
        return json_response(list(vectors), found.headers)

    @router.post("/similarity", response_model=list[float])
    async def similarity(body: SimilarityRequest, request: Request) -> Response:
        """Compare a sentence with others: a bare list of cosines."""
        settings = body.parameters or SimilarityParameters.model_validate({})
        model, role = service.models.find(body.model or settings.model)
        service.check_count(len(body.inputs.sentences))
        prompting = choose(model, role=role, **settings.prompting())
        group = Group([body.inputs.source_sentence, *body.inputs.sentences], prompting)
        found = await service.embed(request, model, [group], settings.cutting())
        vectors = unit(found.vectors)
        return json_response(vectors[1:] @ vectors[0], found.headers)

    @router.post("/tokenize", response_model=list[list[Token]])
    async def tokenize(body: TokenizeRequest) -> Response:
        """Show the tokens of texts, uncut."""
        model, role = service.models.find(body.model)
        texts = [body.inputs] if isinstance(body.inputs, str) else body.inputs
        service.check_count(len(texts))
        if sum(map(len, texts)) > _SHOWN:
            raise bad_input(f"more than {_SHOWN} characters in one call; send fewer texts", param="inputs")
        prompt = choose(model, role=role, prompt_name=body.prompt_name).text
        return json_response(await service.run(_tokens, model, [prompt + t for t in texts], body.add_special_tokens))

    return router


def _tokens(model: ServedModel, texts: list[str], special: bool) -> list[list[dict[str, Any]]]:
    tokenizer = model.encoder.tokenizer
    with model.tokenizing:
        read = tokenizer(
            texts,
            add_special_tokens=special,
            truncation=False,
            verbose=False,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        columns = zip(read["input_ids"], read["offset_mapping"], read["special_tokens_mask"], strict=True)
        return [
            [_token(tokenizer, text, *each) for each in zip(*row, strict=True)]
            for text, row in zip(texts, columns, strict=True)
        ]


def _token(tokenizer: Any, text: str, token: int, place: tuple[int, int], special: int) -> dict[str, Any]:
    start, stop = place
    if special:
        return {"id": token, "text": tokenizer.decode([token]), "special": True, "start": None, "stop": None}
    return {"id": token, "text": text[start:stop], "special": False, "start": start, "stop": stop}
