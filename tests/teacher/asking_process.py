"""A process that asks and writes what it got, to be killed: URL FOLDER QUESTIONS [TOKENS]."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from questions import SETTINGS, ask, teacher

from zhihui.errors import RunFailure
from zhihui.runs import atomic_open
from zhihui.teacher import Budget


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell starts in the background
    url, folder, questions = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    budget = Budget(tokens=int(sys.argv[4])) if len(sys.argv) > 4 else None
    try:
        write_answers(url, folder, questions, budget)
    except RunFailure as failure:
        sys.exit(str(failure))


def write_answers(url: str, folder: Path, questions: int, budget: Budget | None = None) -> None:
    with teacher(folder, url, budget=budget, **SETTINGS) as asked:
        found = list(asked.ask((ask(number) for number in range(questions)), label="t"))
    with atomic_open(folder / "answers.jsonl") as stream:
        for one in found:
            value = one.value and one.value.model_dump()
            row = {"id": one.ask.id, "value": value, "failure": one.failure, "detail": one.detail}
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
