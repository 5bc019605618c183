"""What is sent for a question: messages, the shape of the answer, and the key under which it is remembered."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

from zhihui.runs import fingerprint, to_json
from zhihui.teacher.asking import Ask, M
from zhihui.teacher.config import Endpoint, Form

_SHAPE = "只输出一个 JSON 对象，不要任何其他文字。它必须符合这个 JSON Schema：\n"
_REPAIR = "上面的回答不能使用：{problem}\n请改正，只输出一个符合要求的 JSON 对象，不要任何其他文字。"
_QUOTED = 4000  # characters of a bad answer that are shown again to be mended
_OVERHEAD = 256  # tokens that a chat template and the sentence before a schema add at most
_WIDE = re.compile(r"[\u2e80-\uffef\U00020000-\U0003ffff]")
_NARROW_TOKENS = 0.3


@dataclass(frozen=True, kw_only=True)
class Request:
    """A question as one endpoint is asked it; how the shape of the answer is asked for is left open."""

    key: str
    """SHA-256 over the endpoint's address, model and parameters, the messages and the schema."""
    messages: tuple[dict[str, str], ...]
    schema: type[BaseModel]
    max_answer_tokens: int

    @property
    def expected_tokens(self) -> int:
        """Prompt tokens as tokenizers for Chinese make them, rather too many than too few."""
        texts = [message["content"] for message in self.messages] + [to_json(json_schema(self.schema))]
        wide = sum(len(_WIDE.findall(text)) for text in texts)
        return round(wide + _NARROW_TOKENS * (sum(map(len, texts)) - wide)) + 8 * len(texts)

    @property
    def most_tokens(self) -> int:
        """Prompt tokens that no byte-level tokenizer exceeds: one a byte."""
        texts = [message["content"] for message in self.messages] + [to_json(json_schema(self.schema))]
        return sum(len(text.encode()) for text in texts) + _OVERHEAD


def first_request(endpoint: Endpoint, ask: Ask[M]) -> Request:
    """Return the request that a question begins with."""
    system = [{"role": "system", "content": clean(ask.system)}] if ask.system else []
    return _request(endpoint, ask.schema, (*system, {"role": "user", "content": clean(ask.user)}))


def repair_request(endpoint: Endpoint, request: Request, answer: str, problem: str) -> Request:
    """Return the request that shows an endpoint its unusable answer and what is wrong with it."""
    messages = (
        *request.messages,
        {"role": "assistant", "content": clean(answer[:_QUOTED]) or "（空）"},
        {"role": "user", "content": _REPAIR.format(problem=clean(problem))},
    )
    return _request(endpoint, request.schema, messages)


def _request(endpoint: Endpoint, schema: type[BaseModel], messages: tuple[dict[str, str], ...]) -> Request:
    decides = [endpoint.base_url, endpoint.model, endpoint.query, endpoint.parameters, messages, json_schema(schema)]
    return Request(
        key=fingerprint(decides),
        messages=messages,
        schema=schema,
        max_answer_tokens=endpoint.parameters.max_answer_tokens,
    )


def body_of(endpoint: Endpoint, request: Request, form: Form) -> dict[str, Any]:
    """Return the body of a request to /chat/completions.

    Args:
        endpoint: whose model and parameters.
        request: what is asked.
        form: how the shape of the answer is asked for; all but json_schema put the schema into the prompt, too.
    """
    parameters = endpoint.parameters
    body: dict[str, Any] = {
        "model": endpoint.model,
        "messages": list(request.messages),
        endpoint.token_parameter: request.max_answer_tokens,
    }
    for name in ("temperature", "top_p", "seed"):
        if getattr(parameters, name) is not None:
            body[name] = getattr(parameters, name)
    if form == "json_schema":
        shape = {"name": request.schema.__name__, "strict": True, "schema": _strict(json_schema(request.schema))}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    else:
        body["messages"] = _with_schema(request)
    if form == "json_object":
        body["response_format"] = {"type": "json_object"}
    return body | parameters.extra_body


def _with_schema(request: Request) -> list[dict[str, str]]:
    told = _SHAPE + to_json(json_schema(request.schema))
    first, *rest = request.messages
    if first["role"] != "system":
        return [{"role": "system", "content": told}, *request.messages]
    return [{"role": "system", "content": f"{first['content']}\n\n{told}"}, *rest]


@lru_cache(maxsize=256)
def json_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of an answer."""
    return schema.model_json_schema()


def _strict(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema as strict structured output wants it: every property required, no other allowed, no defaults."""
    definitions = schema.get("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, list):
            return [walk(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node and len(node) > 1:  # nothing may stand beside a reference: what it names is written out
            named = definitions[node["$ref"].rsplit("/", 1)[-1]]
            node = {**named, **{name: value for name, value in node.items() if name != "$ref"}}
        found = {
            name: {key: walk(each) for key, each in value.items()} if name in ("properties", "$defs") else walk(value)
            for name, value in node.items()
            if name != "default"
        }
        if "properties" in found:
            found |= {"additionalProperties": False, "required": list(found["properties"])}
        return found

    return dict(walk(schema))


def clean(text: str) -> str:
    """Return a text that UTF-8 can hold: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode("utf-8")


def recording_key(ask: Ask[M]) -> str:
    """Return the key of a question whatever endpoint is asked: role, texts, and the schema's name and fields.

    The schema's own JSON is left out: it changes with releases of pydantic, and a shipped recording must not.
    """
    schema = [ask.schema.__name__, list(ask.schema.model_fields)]
    return fingerprint([ask.role, clean(ask.system), clean(ask.user), schema])


def dumps(value: Any) -> str:
    """Write JSON on one line, members in the order in which they were put."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
