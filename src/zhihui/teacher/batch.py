"""The batch route: questions without a reply go out as a file for a batch API, its result file fills the cache.

Once it is filled the ordinary run is free. Answers that need a repair, or another endpoint, wait for the next file:
write it anew after reading the results, until nothing is left to ask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.runs import atomic_open
from zhihui.teacher.asking import Ask, Outcome
from zhihui.teacher.cache import Stored
from zhihui.teacher.client import ApiTeacher
from zhihui.teacher.plan import Step
from zhihui.teacher.reply import NoReply, read_reply
from zhihui.teacher.request import body_of, clean, dumps

_KEY = re.compile(r"[0-9a-f]{64}")
_URL = "/v1/chat/completions"


@dataclass(frozen=True, kw_only=True)
class BatchCounts:
    """What was in a batch file."""

    written: int = 0
    """Requests in it, or replies taken from it."""
    known: int = 0
    """Questions, or replies, that the cache held."""
    failed: int = 0
    """Requests that the batch did not answer; they are asked again."""
    prompt_tokens: int = 0
    """Of the replies taken."""
    answer_tokens: int = 0


def write_batch(
    teacher: ApiTeacher, asks: Iterable[Ask[Any]], path: Path, *, endpoint: str | None = None
) -> BatchCounts:
    """Write the requests that questions wait for, each once, in the format of OpenAI's batch API.

    Args:
        teacher: whose cache is looked at.
        asks: the questions.
        path: destination; appears whole or not at all.
        endpoint: name; only its requests are written. By default there must be only one.

    Raises:
        InputError: several endpoints are asked and none is named: a batch file is for one.
    """
    steps: dict[str, Step[Any]] = {}
    known = 0
    for ask in asks:
        step = teacher.next_step(ask)
        if isinstance(step, Outcome):
            known += 1
        elif endpoint in (None, step.name):
            steps.setdefault(step.request.key, step)
    names = sorted({step.name for step in steps.values()})
    if len(names) > 1:
        raise InputError(f"the questions go to {' and '.join(names)}, and a batch file is for one endpoint; name it")
    with atomic_open(path) as stream:
        for key, step in steps.items():
            body = body_of(step.endpoint, step.request, step.endpoint.forms[0])
            stream.write(dumps({"custom_id": key, "method": "POST", "url": _URL, "body": body}) + "\n")
    return BatchCounts(written=len(steps), known=known)


def read_batch(teacher: ApiTeacher, path: Path) -> BatchCounts:
    """Take the replies of a batch's result file, or of its error file, into the cache; all of them or none.

    What the batch cost is not booked against the budget, which bounds the calls that are sent from here.

    Raises:
        InputError: a line that is no result of a batch written here.
    """
    replies: dict[str, Stored] = {}
    failed = prompt = answer = 0
    for key, response in _results(path):
        status = response.get("status_code") if isinstance(response, dict) else None
        if not isinstance(response, dict) or not isinstance(status, int):
            failed += 1
            continue
        body = clean(dumps(response.get("body")))
        try:
            reply = read_reply(status, body)
        except NoReply:
            failed += 1
            continue
        prompt += reply.prompt_tokens or 0
        answer += reply.answer_tokens or 0
        replies[key] = Stored(
            key=key,
            endpoint="batch",
            model=reply.model or "",
            status=status,
            body=body,
            prompt_tokens=reply.prompt_tokens,
            answer_tokens=reply.answer_tokens,
        )
    added = teacher.cache.add(list(replies.values()))
    return BatchCounts(
        written=added, known=len(replies) - added, failed=failed, prompt_tokens=prompt, answer_tokens=answer
    )


def _results(path: Path) -> Iterator[tuple[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the result file of a batch")
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            key = row.get("custom_id") if isinstance(row, dict) else None
            if not isinstance(row, dict) or not isinstance(key, str) or not _KEY.fullmatch(key):
                raise InputError(
                    f"{path}:{number}: no result of a request that zhihui wrote; give a batch's result file"
                )
            yield key, row.get("response")
