"""One call to an endpoint, and what may become of it: a body, or an error that says by its type what to do."""

from __future__ import annotations

import asyncio
import email.utils
import math
import os
import time
from typing import Any

from zhihui.errors import InputError, RunFailure, require
from zhihui.teacher.config import Endpoint
from zhihui.teacher.reply import NoReply, error_of, final_failure, read_reply

_PASSING = {408, 409, 425, 429}
_PERHAPS_CHARGED = {408, 502, 504, 524}  # something on the way gave up; the endpoint itself may have answered
_STOPS = {401: "refuses the key", 402: "wants to be paid", 403: "forbids it", 404: "knows no such model or address"}
_NO_CREDIT = {"insufficient_quota", "insufficient_balance", "arrearage"}
_SHORT_KEY = 8  # characters; a shorter one would be found in ordinary text, and is no secret


class PassingFault(Exception):
    """A fault that may be gone at the next try.

    Attributes:
        detail: one line.
        wait: seconds for which the endpoint asks, or None.
        perhaps_charged: whether an answer may have been made and lost on its way.
    """

    def __init__(self, detail: str, *, wait: float | None = None, perhaps_charged: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.wait = wait
        self.perhaps_charged = perhaps_charged


class BodyRefused(Exception):
    """The endpoint refuses the request's body, perhaps for the way the answer's shape is asked for."""


class Line:
    """A connection to one endpoint; lives on one event loop.

    Args:
        name: of the endpoint, for messages.
        endpoint: its settings.

    Raises:
        InputError: the key is not in the environment.
        MissingExtra: the client is not installed.
    """

    def __init__(self, name: str, endpoint: Endpoint) -> None:
        self._openai: Any = require("openai", extra="synth", purpose=f"asking the teacher {name}")
        self.name = name
        self._endpoint = endpoint
        self._key = _key_of(name, endpoint)
        other = endpoint.key_header != "Authorization" and self._key is not None
        self._headers = {"Authorization": self._openai.omit} if other else None
        self._client = self._openai.AsyncOpenAI(
            base_url=endpoint.base_url,
            api_key=self._key or "none",
            timeout=endpoint.timeout,
            max_retries=0,  # each try is counted against the budget before it is sent
            default_headers={endpoint.key_header: self._key} if other else None,
            default_query=endpoint.query or None,
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._client.close()

    async def send(self, body: dict[str, Any]) -> tuple[int, str]:
        """Send a request once; return the HTTP status and body, 200 or an error that is final for this prompt.

        Raises:
            PassingFault: worth another try.
            BodyRefused: HTTP 400 or 422 for another reason than the prompt's length or content.
            RunFailure: no request to this endpoint can succeed.
        """
        openai = self._openai
        members = {name: value for name, value in body.items() if name not in ("model", "messages")}
        create = self._client.chat.completions.with_raw_response.create
        try:
            async with asyncio.timeout(
                self._endpoint.timeout
            ):  # the client's own bound is for each read, not the whole
                answer = await create(
                    model=body["model"], messages=body["messages"], extra_body=members, extra_headers=self._headers
                )
            text = self.without_key(answer.http_response.text)
        except (TimeoutError, openai.APITimeoutError) as error:
            lost = type(error.__cause__).__name__ not in ("ConnectTimeout", "PoolTimeout")
            detail = f"no answer within {self._endpoint.timeout:g} s"
            raise PassingFault(detail, perhaps_charged=lost) from None
        except openai.APIStatusError as error:
            return error.status_code, self._refusal(error)
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            lost = type(cause).__name__ != "ConnectError"
            detail = self.without_key(f"{type(cause).__name__}: {cause}")
            raise PassingFault(detail, perhaps_charged=lost) from None
        try:
            read_reply(200, text)
        except NoReply as error:
            raise PassingFault(str(error), perhaps_charged=True) from None
        return 200, text

    def _refusal(self, refused: Any) -> str:
        """Return the body of an error that is final for the prompt, or raise what any other one means."""
        status, text = refused.status_code, self.without_key(refused.response.text)
        error = error_of(text)
        if final_failure(status, error) is not None:
            return text
        detail = f"HTTP {status}: {error.message}"
        if status in _STOPS or set(error.code.split()) & _NO_CREDIT:
            why = _STOPS.get(status, "has no credit left")
            mend = f" ({self._endpoint.api_key_env})" if status in (401, 403) and self._key else ""
            raise RunFailure(f"teacher {self.name}: {self._endpoint.base_url} {why}{mend}: {detail}")
        if status in _PASSING or status >= 500:
            wait = _retry_after(refused.response.headers)
            raise PassingFault(detail, wait=wait, perhaps_charged=status in _PERHAPS_CHARGED)
        if status in (400, 422):
            raise BodyRefused(detail)
        raise RunFailure(f"teacher {self.name}: {self._endpoint.base_url} cannot be asked: {detail}")

    def without_key(self, text: str) -> str:
        """Return a text in which the key, should an endpoint repeat it, is blotted out."""
        return text.replace(self._key, "[key]") if self._key and len(self._key) >= _SHORT_KEY else text


def _key_of(name: str, endpoint: Endpoint) -> str | None:
    if endpoint.api_key_env is None:
        return None
    key = os.environ.get(endpoint.api_key_env, "").strip()
    if not key:
        raise InputError(
            f"teacher {name}: the environment variable {endpoint.api_key_env} is not set; put the key there"
        )
    return key


def _retry_after(headers: Any) -> float | None:
    """Return the seconds that Retry-After asks for, be it a number or a date (RFC 9110, 10.2.3)."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        date = email.utils.parsedate_tz(value)
        seconds = email.utils.mktime_tz(date) - time.time() if date else 0.0
    return max(seconds, 0.0) if math.isfinite(seconds) else None
