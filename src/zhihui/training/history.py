"""History: what a training run measured on its way, kept beside every checkpoint."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from zhihui.runs import read_json, write_json

_FILE = "history.json"


@dataclass
class History:
    """The losses and evaluations of a run so far."""

    loss: list[tuple[int, float]] = field(default_factory=list)
    """(step, loss of that step's batch); steps count from 1."""
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """(steps done, metrics)."""

    def write(self, folder: Path) -> None:
        """Write the history into a folder, atomically."""
        write_json(folder / _FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> History:
        """Read what `write` wrote."""
        raw = read_json(folder / _FILE)
        return cls(
            loss=[(step, loss) for step, loss in raw["loss"]],
            evaluations=[(step, found) for step, found in raw["evaluations"]],
        )


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end: its history is its last file."""
    whole = [path for path in folder.glob("checkpoint-*") if (path / _FILE).is_file()]
    return max(whole, key=_step, default=None)


def remove_older_checkpoints(folder: Path, newest: Path) -> None:
    """Remove every checkpoint but the newest, which must be whole by now: a kill in between must cost nothing."""
    for path in folder.glob("checkpoint-*"):
        if path != newest:
            shutil.rmtree(path)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])
