"""Questions for the tests, and teachers of one endpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from loopback import Answering, Loopback
from pydantic import BaseModel, Field

from zhihui.teacher import ApiTeacher, Ask, Budget, Endpoint, Limits, Outcome, Parameters, Price, TeacherConfig

SETTINGS: dict[str, Any] = {"timeout": 2.0, "retries": 20, "limits": Limits(concurrency=32)}
"""For an endpoint at its worst."""


class Grade(BaseModel):
    """相关程度"""

    grade: int = Field(ge=0, le=4, description="0 为无关，4 为完全回答")
    reason: str = Field(default="", description="一句话说明理由")


def ask(number: int | str = 1, *, role: str = "judge", schema: type[BaseModel] = Grade) -> Ask[Any]:
    return Ask(
        id=f"q{number}",
        role=role,  # type: ignore[arg-type]
        system="你判断段落是否回答了问题。",
        user=f"问题{number}：怎样给电动车充电？\n段落：骑行结束后不要急着充电。",
        schema=schema,
        template="grade@1",
    )


def endpoint(url: str, **changes: Any) -> Endpoint:
    """Return an endpoint that waits no longer than a test may."""
    given: dict[str, Any] = {
        "base_url": url,
        "model": "m",
        "backoff": 0.001,
        "timeout": 5.0,
        "parameters": Parameters(max_answer_tokens=100),
        "price": Price(input=1.0, output=10.0),
        "limits": Limits(concurrency=8),
    }
    return Endpoint(**given | changes)


def config(folder: Path, *urls: str, budget: Budget | None = None, **changes: Any) -> TeacherConfig:
    """Return a config whose judge asks one endpoint after the other."""
    endpoints = {f"e{number}": endpoint(url, **changes) for number, url in enumerate(urls)}
    names = tuple(endpoints)
    return TeacherConfig(
        endpoints=endpoints,
        roles={"judge": names, "writer": names},
        budget=budget or Budget(),
        cache=folder / "cache.sqlite",
    )


def teacher(folder: Path, *urls: str, run: str = "run", budget: Budget | None = None, **changes: Any) -> ApiTeacher:
    return ApiTeacher(config(folder, *urls, budget=budget, **changes), run=run)


def outcomes(
    folder: Path, answering: Answering, *, asks: list[Ask[Any]] | None = None, **changes: Any
) -> tuple[list[Outcome[Any]], Loopback, dict[str, Any]]:
    """Ask a server of its own; return the outcomes, the server and the counts."""
    with Loopback(answering) as server, teacher(folder, server.url, **changes) as asked:
        return list(asked.ask(asks or [ask()], label="t")), server, asked.counts
