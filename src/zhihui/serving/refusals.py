"""Refusals: why a call was not answered, in the shape that the client of its route reads."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.responses import Response

_OPENAI_ROUTES = ("/v1/", "/embeddings", "/models")
_OPENAI_TYPES = {401: "authentication_error", 429: "rate_limit_error"}
_TEI_TYPES = {401: "Unauthorized", 429: "Overloaded", 503: "Unhealthy"}
MODEL_NOT_FOUND = "model_not_found"


class Refusal(Exception):
    """A call that is not answered; becomes a response with its status."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Say what is wrong.

        Args:
            status: of HTTP. Clients try 429 and 503 again, 400 never.
            message: what, and how to mend it; never holds a text or a key.
            param: the field at fault.
            code: a word for programs.
            retry_after: seconds after which it may be tried again.
        """
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.retry_after = retry_after

    def response(self, path: str) -> Response:
        """Return what is sent on a route."""
        headers = {} if self.retry_after is None else {"Retry-After": str(max(1, round(self.retry_after)))}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        content = orjson.dumps(self._openai() if path.startswith(_OPENAI_ROUTES) else self._tei())
        return Response(content, self.status, headers, media_type="application/json")

    def _openai(self) -> dict[str, Any]:
        kind = _OPENAI_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def _tei(self) -> dict[str, Any]:
        kind = _TEI_TYPES.get(self.status, "Validation" if self.status < 500 else "Backend")
        return {"error": self.message, "error_type": kind}


def bad_input(message: str, *, param: str | None = None, code: str | None = None) -> Refusal:
    """Return the refusal of a call that will never be answered as it is."""
    return Refusal(400, message, param=param, code=code)
