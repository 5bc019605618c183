"""What comes back, read: an HTTP body becomes a reply, a reply the answer, or the name of what is wrong with it.

A stored reply is read anew at each use, so that better reading serves old answers, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic

from pydantic import RootModel, ValidationError

from zhihui.teacher.asking import Failure, M
from zhihui.teacher.request import clean, json_schema

_TOO_LONG_CODES = {"context_length_exceeded", "string_above_max_length"}
_FILTER_CODES = {
    "content_filter",
    "content_policy_violation",
    "data_inspection_failed",
    "datainspectionfailed",
    "responsibleaipolicyviolation",
    "1301",
}
# Servers that give no code: vLLM, llama.cpp, DashScope, gateways before them.
_TOO_LONG = re.compile(
    r"(maximum|available|model's) context (length|size)|range of input length|prompt is too long", re.I
)
_FILTER = re.compile(r"content[ _](filter|management policy|policy)|inappropriate content|moderation", re.I)
_DECODER = json.JSONDecoder(strict=False)  # a raw line break inside a string is a common slip
_STRING = r'"(?:[^"\\]|\\.)*"|"'
_CURLY = re.compile(_STRING + r"|[{}]", re.DOTALL)
_SQUARE = re.compile(_STRING + r"|[\[\]]", re.DOTALL)
_SHOWN_ERRORS = 3


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What an endpoint said."""

    text: str = ""
    cut: bool = False
    """Whether the answer reached its length limit."""
    failure: Failure | None = None
    """refused, content_filter or too_long, where the endpoint said so itself."""
    detail: str = ""
    model: str | None = None
    """As the endpoint names it."""
    prompt_tokens: int | None = None
    """None where the endpoint does not count."""
    answer_tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reading(Generic[M]):
    """What a reply means for a schema: a value, or a failure."""

    value: M | None = None
    failure: Failure | None = None
    detail: str = ""

    @property
    def mendable(self) -> bool:
        """Whether asking once more, with the fault shown, may help."""
        return self.failure in ("not_json", "wrong_schema")


class NoReply(ValueError):
    """A body that is not one of a chat completion, nor an error that is final."""


# --------------------------------------------------------------------------- HTTP body -> reply


def read_reply(status: int, body: str) -> Reply:
    """Read the body of an HTTP answer.

    Raises:
        NoReply: it is neither a chat completion nor an error that says something about the prompt.
    """
    if status != 200:
        error = error_of(body)
        final = final_failure(status, error)
        if final is None:
            raise NoReply(f"HTTP {status}: {error.message}")
        return Reply(failure=final, detail=f"HTTP {status}: {error.message}")
    try:
        whole = json.loads(body)
        choice = whole["choices"][0]
        message = choice["message"]
        reason = choice.get("finish_reason")
        content, refusal = message.get("content"), message.get("refusal")
    except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError):
        raise NoReply("the body is no chat completion") from None
    usage = whole.get("usage") or {}
    failure: Failure | None = None
    detail = ""
    if refusal:
        failure, detail = "refused", _line(str(refusal))
    elif reason == "content_filter":
        failure, detail = "content_filter", "the provider's filter stopped the answer"
    model = whole.get("model")
    return Reply(
        text=clean(_text(content)),
        cut=reason == "length",
        failure=failure,
        detail=detail,
        model=model if isinstance(model, str) else None,
        prompt_tokens=_count(usage, "prompt_tokens"),
        answer_tokens=_count(usage, "completion_tokens"),
    )


def _text(content: Any) -> str:
    if isinstance(content, list):  # parts, as some gateways give them
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _count(usage: Any, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and value >= 0 else None


@dataclass(frozen=True)
class ErrorBody:
    """What an error's body says."""

    code: str
    message: str
    """One line."""


def error_of(body: str) -> ErrorBody:
    """Read the body of an HTTP error, whatever its form."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return ErrorBody("", _line(body))
    if isinstance(found, dict):
        found = found.get("error", found)
    if not isinstance(found, dict):
        return ErrorBody("", _line(str(found)))
    inner = found.get("innererror")
    codes = [found.get("code"), found.get("type"), inner.get("code") if isinstance(inner, dict) else None]
    message = found.get("message") or found.get("detail") or body
    return ErrorBody(" ".join(str(code).lower() for code in codes if code), _line(str(message)))


def final_failure(status: int, error: ErrorBody) -> Failure | None:
    """Return what an error says about the prompt itself, which no retry mends; None when it says nothing."""
    codes = set(error.code.split())
    if status not in (400, 403, 413, 422):
        return None
    if codes & _FILTER_CODES or (status in (400, 403) and _FILTER.search(error.message)):
        return "content_filter"
    if status in (400, 413, 422) and (status == 413 or codes & _TOO_LONG_CODES or _TOO_LONG.search(error.message)):
        return "too_long"
    return None


def _line(text: str, length: int = 200) -> str:
    return clean(" ".join(text.split()))[:length]


# --------------------------------------------------------------------------- reply -> answer


def read_answer(reply: Reply, schema: type[M]) -> Reading[M]:
    """Return the value that a reply holds, or by name what is wrong with it.

    Thoughts, code fences and prose around the value are passed over; of several values the last that fits counts.
    """
    if reply.failure is not None:
        return Reading(failure=reply.failure, detail=reply.detail)
    array = issubclass(schema, RootModel) and json_schema(schema).get("type") == "array"
    problem: str | None = None
    for found in reversed(list(json_values(reply.text, "[" if array else "{"))):
        try:
            json.dumps(found, ensure_ascii=False).encode()
            return Reading(value=schema.model_validate(found))
        except (ValidationError, UnicodeEncodeError, RecursionError) as error:
            problem = problem or _problem(error)
    if reply.cut:
        return Reading(failure="cut_off", detail=f"stopped at {reply.answer_tokens or '?'} tokens")
    if problem is None:
        return Reading(failure="not_json", detail="no JSON in it" if reply.text.strip() else "it is empty")
    return Reading(failure="wrong_schema", detail=problem)


def json_values(text: str, opening: str = "{") -> Iterator[Any]:
    """Yield the whole JSON values in a text that begin with the bracket, none of them inside another.

    What is inside a value that does not end is not looked at: a part of an answer is not an answer.
    """
    try:
        found = _DECODER.decode(text.strip())
    except (ValueError, RecursionError):
        text = _after_thoughts(text)
    else:
        if isinstance(found, dict if opening == "{" else list):
            yield found
            return
    start = text.find(opening)
    while start >= 0:
        try:
            found, end = _DECODER.raw_decode(text, start)
            yield found
        except (ValueError, RecursionError):  # the second: thousands of brackets
            end = _closing(text, start, opening)
        start = text.find(opening, end) if end >= 0 else -1


def _closing(text: str, start: int, opening: str) -> int:
    """Return the place behind the bracket that closes the one at `start`, or -1; brackets in strings do not count."""
    depth = 0
    for found in _CURLY.finditer(text, start) if opening == "{" else _SQUARE.finditer(text, start):
        if found[0] == '"':  # a string that does not end
            return -1
        if not found[0].startswith('"'):
            depth += 1 if found[0] == opening else -1
            if depth == 0:
                return found.end()
    return -1


def _after_thoughts(text: str) -> str:
    """Return what follows a model's thoughts; some templates put the opening tag into the prompt."""
    _, closing, after = text.rpartition("</think>")
    if closing:
        return after
    return "" if text.lstrip().startswith("<think>") else text


def _problem(error: ValidationError | UnicodeEncodeError | RecursionError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "it holds half a surrogate pair, which is no character"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    found = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"{'.'.join(map(str, one['loc'])) or 'the whole'}: {one['msg']}" for one in found[:_SHOWN_ERRORS]]
    more = len(found) - _SHOWN_ERRORS
    return _line("; ".join(lines) + (f"; and {more} more" if more > 0 else ""), 500)
