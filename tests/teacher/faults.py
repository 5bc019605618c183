"""An endpoint at its worst, and its books: what it answered, what of it never arrived, what it charged."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from typing import Any

from loopback import Answer, Call, completion, error

LOST_WAIT = 30.0  # seconds; longer than any test lets a call last


def share(*what: Any) -> float:
    """Return a number from 0 to 1 that depends on the arguments alone."""
    digest = hashlib.sha256(repr(what).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def said(call: Call) -> Answer:
    """Return what the model says to a prompt: always the same, and one time in ten something unusable.

    Shown its fault, it mends every other one.
    """
    text = json.dumps(call.body["messages"], ensure_ascii=False)
    question = next(message["content"] for message in call.body["messages"] if message["role"] == "user")
    kind, grade = share("kind", question), int(share("grade", text) * 5)
    if call.user != question and share("mended", question) < 0.5:
        kind = 1.0
    good = f'<think>想一想 {{"grade": 0}}</think>\n```json\n{{"grade": {grade}, "reason": "理由"}}\n```'
    prompt, answer = len(text), 20 + grade
    if kind < 0.02:
        return completion(None, refusal="我不能回答", prompt=prompt, answer=answer)
    if kind < 0.04:
        return completion("", finish="content_filter", prompt=prompt, answer=answer)
    if kind < 0.05:
        return error(400, "prompt filtered", code="content_filter")
    if kind < 0.06:
        return completion(good[:40], finish="length", prompt=prompt, answer=100)
    if kind < 0.08:
        return completion('{"grade": "很高"}', prompt=prompt, answer=answer)
    if kind < 0.10:
        return completion(good[:-8], prompt=prompt, answer=answer)
    return completion(good, prompt=prompt, answer=answer)


class Faulty:
    """Answers as `said`, but one try in five goes wrong on the way, each request's tries by its own dice.

    Args:
        faults: share of tries that go wrong; of half of them the answer was made, and charged.
        stalls: share of the answers made that come too late, in place of being cut off.
        seed: of the dice.
    """

    def __init__(self, *, faults: float = 0.2, stalls: float = 0.0, seed: int = 0) -> None:
        self.faults = faults
        self.stalls = stalls
        self.seed = seed
        self.tries: Counter[str] = Counter()
        """By request."""
        self.charged: Counter[str] = Counter()
        """Times that a request was answered at a charge."""
        self.lost: Counter[str] = Counter()
        """How many of them went wrong on the way back."""
        self.tokens = 0
        """Charged."""

    def __call__(self, call: Call) -> Answer:
        request = hashlib.sha256(json.dumps(call.body, sort_keys=True).encode()).hexdigest()
        dice = share(self.seed, request, self.tries[request])
        self.tries[request] += 1
        if dice < self.faults / 2:
            plain = [
                error(429, "slow down", headers={"retry-after": "0.01"}),
                error(500, "internal error"),
                error(503, "overloaded"),
                Answer("", cut=0),
            ]
            return plain[int(dice / self.faults * 2 * len(plain))]
        answer = said(call)
        if answer.status == 200:
            self.charged[request] += 1
            self.tokens += sum(answer.usage[name] for name in ("prompt_tokens", "completion_tokens"))
        if dice < self.faults and answer.status == 200:
            self.lost[request] += 1
            if share("stall", self.seed, request, self.tries[request]) < self.stalls:
                return replace(answer, wait=LOST_WAIT)
            return replace(answer, cut=dice / self.faults)
        return answer

    @property
    def arrived_twice(self) -> list[str]:
        """Requests that were charged again though an answer had gone out whole."""
        return [request for request, times in self.charged.items() if times - self.lost[request] > 1]
