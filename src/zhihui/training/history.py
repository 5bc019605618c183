"""History: what a training run measured on its way, kept beside every checkpoint."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from zhihui.runs import read_json, write_json

_FILE = "history.json"


@dataclass
class History:
    """The losses and evaluations of a run so far; steps count from 1."""

    loss: list[tuple[int, float]] = field(default_factory=list)
    """(step, mean loss of that step's batch over all processes)."""
    evaluations: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    """(steps done, metrics)."""
    gradient_norm: list[tuple[int, float]] = field(default_factory=list)
    """(step, norm of the gradient before it is clipped)."""
    temperature: list[tuple[int, float]] = field(default_factory=list)
    """(step, τ it was computed with), where τ is learned."""
    masked: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(step, negatives dropped as known answers, as near, and how many of both were curated)."""
    remembered: list[tuple[int, int]] = field(default_factory=list)
    """(step, passages of earlier batches among the negatives), where there is a memory."""
    refreshed: list[tuple[int, int]] = field(default_factory=list)
    """(step, hard negatives replaced after it), where they are refreshed."""
    final_temperature: float | None = None
    """τ after the last step, where it is learned."""

    def write(self, folder: Path) -> None:
        """Write the history into a folder, atomically."""
        write_json(folder / _FILE, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> History:
        """Read what `write` wrote."""
        raw = read_json(folder / _FILE)
        lists = {name: [tuple(entry) for entry in value] for name, value in raw.items() if isinstance(value, list)}
        return cls(**(raw | lists))

    def best(self, metric: str | None) -> int:
        """Return the number of the evaluation with the highest value of a metric (None: of its first), the earliest."""
        values = [found[metric or next(iter(found))] for _, found in self.evaluations]
        return values.index(max(values))


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
