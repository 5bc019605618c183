"""Answers in a file that people can read, to answer from without a network: in examples, tests and the shipped set.

One JSON object a line, sorted: `key`, `role`, `template`, and `answer` or `failure`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast, get_args

from pydantic import BaseModel, ValidationError

from zhihui import progress
from zhihui.errors import InputError
from zhihui.runs import atomic_open, fingerprint_path
from zhihui.teacher.asking import Ask, Failure, M, Outcome, Teacher
from zhihui.teacher.request import dumps, recording_key

TEACHER = "recording"
_KEPT = [failure for failure in get_args(Failure) if failure not in ("unreachable", "not_recorded")]
"""Failures that say something about the question, and would come again."""


def write_recording(path: Path, pairs: Iterable[tuple[Ask[Any], BaseModel | Failure]]) -> int:
    """Write answers, and failures that are final, to a recording; return how many lines it has.

    The same question given twice is written once, with its first answer; the same pairs in another order give the same
    bytes as long as they do not contradict one another.
    """
    lines: dict[str, dict[str, Any]] = {}
    for ask, answer in pairs:
        if isinstance(answer, str) and answer not in _KEPT:
            continue
        key = recording_key(ask)
        what = {"failure": answer} if isinstance(answer, str) else {"answer": answer.model_dump(mode="json")}
        lines.setdefault(key, {"key": key, "role": ask.role, "template": ask.template, **what})
    with atomic_open(path) as stream:
        for line in sorted(lines.values(), key=lambda line: (line["template"], line["role"], line["key"])):
            stream.write(dumps(line) + "\n")
    return len(lines)


class RecordedTeacher:
    """Answers from a recording; what it does not hold fails as not_recorded.

    Raises:
        InputError: the file is absent, a line is no recorded answer, or one question has two answers.
    """

    def __init__(self, path: Path) -> None:
        self._lines = _read(path)
        self._fingerprint = fingerprint_path(path)
        self._answered = 0

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the file."""
        return self._fingerprint

    @property
    def counts(self) -> dict[str, Any]:
        """Nothing was spent; how many questions were answered."""
        return {"calls": 0, "prompt_tokens": 0, "answer_tokens": 0, "cost": 0.0, "cached": self._answered}

    def ask(self, asks: Iterable[Ask[M]], *, label: str, total: int | None = None) -> Iterator[Outcome[M]]:
        """Yield an outcome for each question, in the order of the questions."""
        for ask in progress.track(asks, total=total, label=label):
            yield self._outcome(ask)

    def _outcome(self, ask: Ask[M]) -> Outcome[M]:
        line = self._lines.get(recording_key(ask))
        if line is None:
            detail = f"no answer to this {ask.template} question of the {ask.role}"
            return Outcome(ask=ask, value=None, failure="not_recorded", detail=detail, teacher=TEACHER)
        self._answered += 1
        if "failure" in line:
            return Outcome(ask=ask, value=None, failure=line["failure"], teacher=TEACHER, cached=True)
        try:
            value = ask.schema.model_validate(line["answer"])
        except ValidationError as error:
            detail = f"{error.error_count()} members of the recorded answer do not fit"
            return Outcome(ask=ask, value=None, failure="wrong_schema", detail=detail, teacher=TEACHER, cached=True)
        return Outcome(ask=ask, value=value, teacher=TEACHER, cached=True)


class RecordingTeacher:
    """Passes questions to another teacher and notes its answers.

    Args:
        teacher: who answers.
    """

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._pairs: list[tuple[Ask[Any], BaseModel | Failure]] = []

    @property
    def fingerprint(self) -> str:
        """That of the teacher who answers."""
        return self._teacher.fingerprint

    def ask(self, asks: Iterable[Ask[M]], *, label: str, total: int | None = None) -> Iterator[Outcome[M]]:
        """Yield the other teacher's outcomes."""
        for outcome in self._teacher.ask(asks, label=label, total=total):
            answer = outcome.value if outcome.value is not None else outcome.failure
            self._pairs.append((outcome.ask, cast("BaseModel | Failure", answer)))
            yield outcome

    def write(self, path: Path) -> int:
        """Write what was answered so far to a recording; return how many lines it has."""
        return write_recording(path, self._pairs)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such recording") from None
    except (UnicodeDecodeError, IsADirectoryError):
        raise InputError(f"{path}: is no recording; give a JSONL file of recorded answers") from None
    lines: dict[str, dict[str, Any]] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        if not raw.strip():
            continue
        try:
            line = json.loads(raw)
            key = line["key"]
            whole = isinstance(key, str) and (isinstance(line.get("answer"), dict | list) or line["failure"] in _KEPT)
        except (ValueError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            raise InputError(f'{path}:{number}: not a recorded answer; a line has "key" and "answer" or "failure"')
        if lines.setdefault(key, line) != line:
            raise InputError(f"{path}:{number}: another answer to a question answered above; keep one of the lines")
    return lines
