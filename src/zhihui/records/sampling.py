"""Retrieval sets with fewer queries: what many models are measured on, at a part of the cost."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zhihui.errors import InputError
from zhihui.records.beir import read_beir, write_beir
from zhihui.records.retrieval import RetrievalSet
from zhihui.runs import Manifest, run_stage

SETS = "sets"


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How many queries are kept.

    Raises:
        InputError: a number out of bounds.
    """

    queries: int = 500
    """Judged queries kept of each set, by a seeded hash of their ids; a set with fewer keeps all. Passages all stay."""
    split: str = "test"
    """Whose queries are kept; other splits go."""
    seed: int = 0
    """Of the hash."""

    def __post_init__(self) -> None:
        if self.queries < 1:
            raise InputError(f"queries is {self.queries}; keep at least 1")


def sample_files(folders: Mapping[str, Path], out: Path, config: SampleConfig, *, overwrite: bool = False) -> Manifest:
    """Write sets with fewer queries; `out` gets sets/NAME for each.

    Args:
        folders: BEIR folders by the set's name.
        out: the stage's folder.
        config: how many queries are kept.
        overwrite: replace a finished run of other inputs or settings.

    Raises:
        InputError: unusable data, or no such split.
    """

    def work(folder: Path) -> dict[str, Any]:
        kept = {}
        for name, path in folders.items():
            part = sampled(read_beir(path), config)
            write_beir(folder / SETS / name, part)
            kept[name] = len(part.queries)
        return {"sets": len(kept), "queries": sum(kept.values()), "queries_by_set": kept}

    inputs: dict[str, Path | str] = {f"set:{name}": path for name, path in folders.items()}
    return run_stage("sample", out, work, inputs=inputs, config=config, overwrite=overwrite)


def sampled(data: RetrievalSet, config: SampleConfig) -> RetrievalSet:
    """Return a set with some of the judged queries of a split, in their order.

    Raises:
        InputError: no such split.
    """
    judged = data.judged(config.split)

    def place(query_id: str) -> bytes:
        return hashlib.sha256(f"{config.seed}:{query_id}".encode()).digest()

    chosen = {*sorted(judged, key=place)[: config.queries]}
    kept = {key: grades for key, grades in judged.items() if key in chosen}
    return replace(data, queries={key: data.queries[key] for key in kept}, qrels={config.split: kept})


def evenly(keys: Sequence[str], count: int) -> Sequence[str]:
    """Return at most `count` keys from all over the list: neighbours in a corpus are often parts of one document."""
    if count <= 0:
        return []
    return keys[:: max(1, -(-len(keys) // count))]
