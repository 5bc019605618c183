"""What is to be done about a question, given the replies there are: an outcome, or the next request to send.

It sends nothing and looks at no clock, so that the client, the estimate and the batch file agree on every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from zhihui.teacher.asking import Ask, Failure, M, Outcome
from zhihui.teacher.config import Endpoint
from zhihui.teacher.reply import Reply, read_answer
from zhihui.teacher.request import Request, first_request, repair_request

Find = Callable[[str], Reply | None]
"""From a request's key to the reply that is known, if any."""


@dataclass(frozen=True, kw_only=True)
class Step(Generic[M]):
    """The request that a question waits for."""

    ask: Ask[M]
    name: str
    """Of the endpoint."""
    endpoint: Endpoint
    request: Request
    last: bool
    """Whether no other endpoint is asked after this one."""


def next_step(
    ask: Ask[M],
    cascade: Sequence[tuple[str, Endpoint]],
    find: Find,
    unreachable: Mapping[str, str],
) -> Outcome[M] | Step[M]:
    """Return the outcome of a question, or what to send next for it.

    Each endpoint of the cascade is asked once, and once more with its fault shown where the answer was no JSON or did
    not fit; the next one follows where that gave nothing either. The failure of the last one is the outcome's.

    Args:
        ask: the question.
        cascade: endpoints by name, in the order in which they are asked.
        find: the replies there are.
        unreachable: endpoints that failed to the last retry for this question, with one line why.
    """
    failure: Failure = "unreachable"
    detail, model, known = "", None, False
    for place, (name, endpoint) in enumerate(cascade):
        model = endpoint.model
        if name in unreachable:
            failure, detail = "unreachable", unreachable[name]
            continue
        request: Request | None = first_request(endpoint, ask)
        mended = False
        while request is not None:
            room = endpoint.context - request.max_answer_tokens
            if request.expected_tokens > room:
                if not mended:  # of a repair that no longer fits, the first answer's failure stands
                    failure = "too_long"
                    detail = f"about {request.expected_tokens} tokens; {room} fit beside an answer of {endpoint.model}"
                break
            reply = find(request.key)
            if reply is None:
                last = place == len(cascade) - 1
                return Step(ask=ask, name=name, endpoint=endpoint, request=request, last=last)
            known = True
            reading = read_answer(reply, ask.schema)
            if reading.value is not None:
                return Outcome(ask=ask, value=reading.value, teacher=model, cached=True)
            assert reading.failure is not None
            failure, detail = reading.failure, reading.detail
            again = reading.mendable and not mended
            request = repair_request(endpoint, request, reply.text, detail) if again else None
            mended = True
    return Outcome(ask=ask, value=None, failure=failure, detail=detail, teacher=model, cached=known)
