"""One pass over a data set: what the charts show of all of it, and a seeded sample of its rows."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from zhihui.progress import track
from zhihui.records.beir import is_beir, read_beir
from zhihui.records.example import Example
from zhihui.records.files import read_examples
from zhihui.records.rejects import REJECTED, RejectLog
from zhihui.records.rows import read_rows
from zhihui.records.samples.marks import overlap
from zhihui.records.samples.shown import mined

T = TypeVar("T")
_ROUNDED = 3  # digits of scores and shares that are told apart


@dataclass
class Counted:
    """Counts over all rows; each Counter goes from a value to how often it occurs."""

    rows: int = 0
    lengths: dict[str, Counter[float]] = field(
        default_factory=lambda: {name: Counter() for name in ("queries", "positives", "negatives")}
    )
    """Characters."""
    grades: dict[str, Counter[float]] = field(
        default_factory=lambda: {name: Counter() for name in ("positives", "negatives")}
    )
    overlaps: dict[str, Counter[float]] = field(
        default_factory=lambda: {name: Counter() for name in ("positives", "negatives")}
    )
    """Share of a query's character pairs that a passage has."""
    ranks: dict[str, Counter[float]] = field(default_factory=dict)
    """By miner."""
    miners: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)

    def add(self, example: Example) -> None:
        """Count an example."""
        self.rows += 1
        self.sources[example.source or "(none)"] += 1
        self.lengths["queries"][len(example.query)] += 1
        sides = (("positives", example.pos, example.pos_scores), ("negatives", example.neg, example.neg_scores))
        for name, texts, scores in sides:
            for text in texts:
                self.lengths[name][len(text)] += 1
                self.overlaps[name][round(overlap(text, example.query), _ROUNDED)] += 1
            for score in scores or ():
                self.grades[name][round(score, _ROUNDED)] += 1
        for origin in mined(example):
            miner = str(origin.get("miner") or "(none)")
            self.miners[miner] += 1
            rank = origin.get("rank")
            if isinstance(rank, int) and not isinstance(rank, bool):
                self.ranks.setdefault(miner, Counter())[rank] += 1


def count_and_draw(
    path: Path, *, drawn: int, seed: int, rejects: RejectLog | None = None
) -> tuple[Counted, list[Example]]:
    """Return what was counted over a data set's examples, and a sample of them in the order of the data.

    Args:
        path: file or folder of examples, or a BEIR folder, whose judged queries of all splits are taken.
        drawn: examples of the sample; all where there are fewer.
        seed: of the draw.
        rejects: where unusable rows go; None stops at the first one.

    Raises:
        InputError: no such path, or an unusable row.
    """
    counted = Counted()

    def watched() -> Iterator[Example]:
        for example in track(_examples(path, rejects), total=None, label="Reading examples"):
            counted.add(example)
            yield example

    sample = _draw(watched(), drawn, seed)
    return counted, sample


def rejected_beside(path: Path, *, drawn: int, seed: int) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Return the reasons of rows that were set aside when a data set was made, and a sample of these rows.

    Args:
        path: file or folder of the data; rejected.jsonl lies within the folder, or beside the file (as FILE.rejected.
            jsonl where a file was converted).
        drawn: rows of the sample.
        seed: of the draw.
    """
    own = path.with_name(f"{path.name}.{REJECTED}")
    places = [path / REJECTED] if path.is_dir() else [own, path.with_name(REJECTED)]
    file = next((place for place in places if place.is_file()), None)
    reasons: Counter[str] = Counter()
    if file is None:
        return reasons, []

    def watched() -> Iterator[dict[str, Any]]:
        for row in read_rows(file, max_line_bytes=2**28):
            reasons[str(row.data.get("reason", ""))] += 1
            yield row.data

    return reasons, _draw(watched(), drawn, seed)


def _examples(path: Path, rejects: RejectLog | None) -> Iterator[Example]:
    if not is_beir(path):
        yield from read_examples(path, rejects=rejects)
        return
    data = read_beir(path, rejects=rejects)
    for split in sorted(data.qrels):
        for example in data.examples(split):
            example.source = split
            yield example


def _draw(items: Iterable[T], count: int, seed: int) -> list[T]:
    """Return a uniform sample of a stream in its order, holding no more than the sample (reservoir sampling)."""
    source = random.Random(seed)
    kept: list[tuple[int, T]] = []
    for number, item in enumerate(items):
        if number < count:
            kept.append((number, item))
        elif (place := source.randrange(number + 1)) < count:
            kept[place] = (number, item)
    return [item for _, item in sorted(kept, key=lambda pair: pair[0])]
