"""RetrievalSet: a corpus, queries and judgements, what a retrieval system is measured on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from zhihui.errors import InputError
from zhihui.records.example import Example


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage of a corpus."""

    text: str
    title: str = ""

    @property
    def full(self) -> str:
        """Title and text joined by a space, the way mteb joins them."""
        return f"{self.title} {self.text}".strip()


@dataclass(kw_only=True)
class RetrievalSet:
    """A corpus, queries, and for each split which passages answer which query."""

    name: str
    corpus: dict[str, Passage]
    """Passages by id."""
    queries: dict[str, str]
    """Query texts by id, of all splits."""
    qrels: dict[str, dict[str, dict[str, int]]]
    """Split -> query id -> passage id -> grade; a grade of 1 or more means relevant."""

    def judged(self, split: str) -> dict[str, dict[str, int]]:
        """Return the judgements of a split: query id -> passage id -> grade.

        Raises:
            InputError: no such split; the message names those there are.
        """
        if split not in self.qrels:
            raise InputError(f"{self.name}: no split {split!r}; there are: {', '.join(sorted(self.qrels)) or 'none'}")
        return self.qrels[split]

    def examples(self, split: str) -> list[Example]:
        """Return one example for each query of a split: its relevant passages are the positives, best first.

        Positives of one grade keep the order of the judgements; `pos_scores` are the grades and
        `meta["pos_ids"]` the passages' ids. A query without a relevant passage gives no example.

        Raises:
            InputError: no such split.
        """
        found = []
        for query_id, grades in self.judged(split).items():
            relevant = sorted(((d, g) for d, g in grades.items() if g >= 1), key=lambda pair: -pair[1])
            if not relevant:
                continue
            found.append(
                Example(
                    query=self.queries[query_id],
                    pos=[self.corpus[passage_id].full for passage_id, _ in relevant],
                    pos_scores=[float(grade) for _, grade in relevant],
                    id=query_id,
                    source=self.name,
                    meta={"pos_ids": [passage_id for passage_id, _ in relevant]},
                )
            )
        return found

    def split_queries(self, fractions: Mapping[str, float], seed: int) -> RetrievalSet:
        """Return the set with its only split divided into named ones, each query by a seeded hash of its id.

        A query's side depends on its id, the seed and the fractions alone: queries added later move no other.

        Args:
            fractions: name -> share of the queries, in (0, 1]; they add up to 1.
            seed: any integer.

        Raises:
            InputError: the set has several splits, the fractions do not add up, or a split would be empty.
        """
        if len(self.qrels) != 1:
            have = ", ".join(sorted(self.qrels)) or "none"
            raise InputError(f"{self.name}: only a set with a single split can be split; it has: {have}")
        total = math.fsum(fractions.values())
        if abs(total - 1) > 1e-9 or any(not 0 < share <= 1 for share in fractions.values()):
            shares = ", ".join(f"{name} {share:g}" for name, share in fractions.items())
            raise InputError(f"fractions ({shares}) add up to {total:g}; give shares above 0 that add up to 1")
        (judged,) = self.qrels.values()
        divided: dict[str, dict[str, dict[str, int]]] = {name: {} for name in fractions}
        for query_id, grades in judged.items():
            divided[_side(query_id, fractions, seed)][query_id] = grades
        for name, queries in divided.items():
            if not queries:
                reason = f"split {name!r} gets none of the {len(judged)} queries; give it a larger share"
                raise InputError(f"{self.name}: {reason}, or change the seed")
        return replace(self, qrels=divided)


def _side(query_id: str, fractions: Mapping[str, float], seed: int) -> str:
    digest = hashlib.sha256(f"{seed}:{query_id}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    upper = 0.0
    for name, share in fractions.items():
        upper += share
        if point < upper:
            return name
    return list(fractions)[-1]  # rounding may leave the shares a hair below 1
