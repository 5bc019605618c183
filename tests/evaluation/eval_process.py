"""A process that measures two tasks and may be killed: MIRROR OUT LOG BLOCK DIE_AFTER WEIGHT."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zhihui.evaluation.cmteb import find_tasks
from zhihui.evaluation.sets import task_sets
from zhihui.evaluation.stage import EvaluationConfig, Measurement, systems_of

TASKS = ("CovidRetrieval", "DuRetrieval")


class Logging:
    """Counts characters, writes each text it encodes into a log, and may kill its process after some."""

    name = "logging"

    def __init__(self, log: Path, die_after: int, weight: float) -> None:
        self.log = log
        self.left = die_after
        self.weight = weight

    @property
    def fingerprint(self) -> str:
        return f"logging {self.weight}"

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        return self.encode_documents([f"{instruction}{text}" for text in texts])

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.full((len(texts), 16), self.weight, dtype=np.float32)
        with self.log.open("a", encoding="utf-8") as log:
            for row, text in enumerate(texts):
                if self.left == 0:
                    log.flush()
                    os.kill(os.getpid(), signal.SIGKILL)
                self.left -= 1
                log.write(f"{text}\n")
                for character in text:
                    vectors[row, ord(character) % 16] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def main() -> None:
    mirror, out, log = map(Path, sys.argv[1:4])
    block, die_after, weight = int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6])
    config = EvaluationConfig(baseline="none")
    measurement = Measurement(task_sets(find_tasks(TASKS), mirror), config)
    encoder = Logging(log, die_after, weight)
    systems = systems_of({"logging": encoder}, config, instructions=measurement.instructions)
    measurement.run(systems, out, block=block)


if __name__ == "__main__":
    main()
