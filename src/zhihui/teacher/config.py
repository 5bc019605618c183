"""Which teachers there are, what each is asked for, and what asking may cost."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from zhihui.errors import InputError
from zhihui.teacher.asking import Role

Form = Literal["json_schema", "json_object", "text"]
"""How an endpoint is told the shape of an answer: by a schema, as any JSON, or in the words of the prompt alone."""
FORMS: tuple[Form, ...] = get_args(Form)
NANO = 1_000_000_000
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_SECRETS = {"key", "apikey", "xapikey", "token", "accesstoken", "authtoken", "secret", "authorization", "password"}


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """What decides an answer beside the prompt; None leaves a parameter to the endpoint."""

    temperature: float | None = None
    top_p: float | None = None
    max_answer_tokens: int = 1024
    """Bound of an answer, thoughts included; a budget counts on it before a call is sent."""
    seed: int | None = 0
    """None for endpoints that do not know the parameter."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Further members of the request's body, as in {"chat_template_kwargs": {"enable_thinking": false}}."""

    def __post_init__(self) -> None:
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise InputError(f"temperature is {self.temperature}; give 0 to 2, or null for the endpoint's own")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}; give a share above 0 and up to 1, or null")
        _at_least(1, max_answer_tokens=self.max_answer_tokens)
        _no_secret("extra_body", self.extra_body)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How fast an endpoint is asked; None knows no bound."""

    concurrency: int = 16
    """Calls under way at once."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Of prompts and answers; a call is taken at its worst case until its answer tells."""

    def __post_init__(self) -> None:
        _at_least(1, concurrency=self.concurrency, requests_per_minute=self.requests_per_minute)
        _at_least(1, tokens_per_minute=self.tokens_per_minute)


@dataclass(frozen=True, kw_only=True)
class Price:
    """What a million tokens cost, in whatever currency the budget is in."""

    input: float
    output: float

    def __post_init__(self) -> None:
        for name in ("input", "output"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise InputError(f"price {name} is {value}; give 0 or more for a million tokens")

    def nano(self, prompt_tokens: int, answer_tokens: int) -> int:
        """Return the cost in billionths of the currency, rounded up: whole numbers add up without an error."""
        return math.ceil((self.input * prompt_tokens + self.output * answer_tokens) * (NANO / 1_000_000))


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One model behind an OpenAI-compatible API (OpenAI, Azure, DashScope, vLLM, Ollama, ...).

    Raises:
        InputError: a value out of bounds, or a secret where only its name belongs.
    """

    base_url: str
    """As in https://api.openai.com/v1; for Azure the deployment's address, with api-version in `query`."""
    model: str
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; None for endpoints that want none. A key is never written
    anywhere."""
    key_header: Literal["Authorization", "api-key"] = "Authorization"
    """Where the key goes; older Azure deployments want it in api-key."""
    query: dict[str, str] = field(default_factory=dict)
    """Further parameters of the address."""
    parameters: Parameters = field(default_factory=Parameters)
    context: int = 32_768
    """Tokens of prompt and answer together; a prompt estimated to be longer fails as too_long and is not sent."""
    answers: Literal["auto", "json_schema", "json_object", "text"] = "auto"
    """How the shape of an answer is asked for; auto takes the first way to which the endpoint does not answer 400."""
    token_parameter: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Under which name max_answer_tokens is sent; OpenAI's reasoning models want the second."""
    timeout: float = 120.0
    """Seconds a call may last."""
    retries: int = 6
    """Further tries after a passing fault: 408, 409, 429, 5xx, a timeout, a cut connection."""
    backoff: float = 1.0
    """Seconds before the second try; doubled from try to try, with a random share taken off."""
    longest_wait: float = 120.0
    """Seconds between tries at most; an endpoint that asks for a longer wait (Retry-After) counts as unreachable."""
    limits: Limits = field(default_factory=Limits)
    price: Price | None = None
    """None when unknown or free; a budget in cost needs it."""

    def __post_init__(self) -> None:
        address = urlsplit(self.base_url)
        if address.username or address.password or address.query:
            raise InputError("base_url holds more than an address; keys go into the environment, parameters into query")
        if address.scheme not in ("http", "https") or not address.netloc:
            raise InputError(f"base_url {self.base_url!r} is no address; write it as in https://api.openai.com/v1")
        if not self.model:
            raise InputError("model is empty; name one that the endpoint serves")
        if self.api_key_env is not None and not _VARIABLE.fullmatch(self.api_key_env):
            # Its value is not repeated: it may be the key itself.
            raise InputError("api_key_env is not the name of an environment variable, as in OPENAI_API_KEY")
        _no_secret("query", self.query)
        if self.answers not in ("auto", *FORMS):
            raise InputError(f"answers is {self.answers!r}; use auto, {', '.join(FORMS)}")
        _at_least(0, retries=self.retries)
        for name in ("timeout", "backoff", "longest_wait"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}; give a number of seconds above 0")
        if self.context <= self.parameters.max_answer_tokens:
            raise InputError(
                f"context {self.context} leaves no room for a prompt beside answers of up to "
                f"{self.parameters.max_answer_tokens} tokens; raise it or lower max_answer_tokens"
            )

    @property
    def forms(self) -> tuple[Form, ...]:
        """The ways in which an answer's shape is asked for, the best first."""
        return FORMS if self.answers == "auto" else (self.answers,)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a run may spend over all its restarts; None knows no bound.

    Calls that were answered count as they were charged; one that got lost (a timeout, a cut connection, a killed
    process) counts at its worst case, since it may have been charged; one refused with an error status is free.
    """

    calls: int | None = None
    tokens: int | None = None
    """Of prompts and answers."""
    cost: float | None = None
    """In the currency of the prices."""

    def __post_init__(self) -> None:
        _at_least(0, calls=self.calls, tokens=self.tokens)
        if self.cost is not None and not (math.isfinite(self.cost) and self.cost >= 0):
            raise InputError(f"cost is {self.cost}; give 0 or more, or null for no bound")


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The endpoints by name, who plays which role, and the budget.

    Raises:
        InputError: a role without endpoints or of an unknown one, or a budget in cost without prices.
    """

    endpoints: dict[str, Endpoint]
    roles: dict[Role, tuple[str, ...]]
    """Role to names of endpoints: the first is asked, the next only where the one before it gave no usable answer."""
    budget: Budget = field(default_factory=Budget)
    cache: Path = Path("runs/teacher.sqlite")
    """File of all answers and of what was spent; runs may share it, also at the same time."""

    def __post_init__(self) -> None:
        for role, names in self.roles.items():
            if role not in get_args(Role):
                raise InputError(f"roles: unknown role {role!r}; there are: {', '.join(get_args(Role))}")
            if not names or len(set(names)) != len(names):
                raise InputError(f"roles: {role} has no endpoint, or one twice; name each that it asks once")
            for name in names:
                if name not in self.endpoints:
                    known = ", ".join(self.endpoints) or "none"
                    raise InputError(f"roles: {role} asks {name!r}, which is no endpoint; there are: {known}")
                if self.budget.cost is not None and self.endpoints[name].price is None:
                    raise InputError(f"a budget in cost needs prices; give endpoints.{name}.price")
        if not self.roles:
            raise InputError("roles is empty; name the endpoints of judge, writer or both")

    def cascade(self, role: Role) -> list[tuple[str, Endpoint]]:
        """Return the endpoints that a role asks, by name, in their order.

        Raises:
            InputError: the config names none for that role.
        """
        if role not in self.roles:
            raise InputError(f"no teacher for the role {role}; add it to roles, as in roles: {{{role}: [NAME]}}")
        return [(name, self.endpoints[name]) for name in self.roles[role]]


def _at_least(bound: int, **given: int | None) -> None:
    for name, value in given.items():
        if value is not None and value < bound:
            raise InputError(f"{name} is {value}; give at least {bound}")


def _no_secret(where: str, given: dict[str, Any]) -> None:
    for name in given:
        if re.sub(r"[^a-z]", "", name.lower()) in _SECRETS:
            raise InputError(f"{where}: {name} looks like a secret; keys come from the environment only (api_key_env)")
