"""Answers: JSON written fast, vectors in it with the shortest digits that give the same fp32 number."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

from zhihui.serving.schemas import ErrorResponse, OpenAIErrorResponse

_STATUSES = {
    400: "The call cannot be answered as it is.",
    401: "No valid API key.",
    404: "No such model.",
    413: "The body is too large.",
    429: "Too much at once; Retry-After says when to try again.",
    500: "The model failed.",
    503: "Ending, late or unhealthy; Retry-After says when to try again.",
}


def json_response(content: Any, headers: dict[str, str] | None = None) -> Response:
    """Return a response of JSON; arrays are lists in it."""
    body = orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, headers=headers, media_type="application/json")


OPENAI_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": OpenAIErrorResponse, "description": text} for status, text in _STATUSES.items()
}
TEI_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": text} for status, text in _STATUSES.items()
}
