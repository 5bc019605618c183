"""The queries of a comparison that are worth reading: where the best system fails, gains and loses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from zhihui.evaluation import sections
from zhihui.evaluation.compare import Compared, Comparison
from zhihui.evaluation.run import Evaluation, SystemResult
from zhihui.records import Passage, RetrievalSet

_ONE_SET = 4
"""Queries of each kind where there is one set; of several there is one a set."""


def telling_queries(
    comparison: Comparison, texts: Mapping[str, RetrievalSet], *, systems: int = 4
) -> list[sections.SampleQuery]:
    """Return queries with what the best systems answered, set by set.

    Args:
        comparison: what was found.
        texts: the sets by name; of one that is missing, ids stand for texts.
        systems: how many of the best systems are shown.

    """
    shown = comparison.ranked[:systems]
    many = _ONE_SET if len(comparison.sets) == 1 else 1
    queries = []
    for place, one in enumerate(comparison.sets):
        evaluation = _evaluation(comparison, place, shown, texts.get(one.name))
        queries += [sections.sample_query(evaluation, row, why) for row, why in _chosen(shown, place, many)]
    return queries


def difference_rows(comparison: Comparison) -> Iterator[dict[str, Any]]:
    """Yield one row a query: its set, its id, and nDCG@10 of every system."""
    for place, one in enumerate(comparison.sets):
        for row, query_id in enumerate(one.query_ids):
            scores = {system.name: round(float(system.ndcg[place][row]), 6) for system in comparison.systems}
            yield {"set": one.name, "query_id": query_id, "ndcg_at_10": scores}


def won_and_lost(comparison: Comparison, a: str, b: str) -> tuple[int, int, int]:
    """Return for how many queries of all sets system `a` scores more than, as much as and less than `b`."""
    first, second = (next(one for one in comparison.systems if one.name == name) for name in (a, b))
    gains = np.concatenate(first.ndcg) - np.concatenate(second.ndcg)
    return int((gains > 0).sum()), int((gains == 0).sum()), int((gains < 0).sum())


def _chosen(shown: list[Compared], place: int, many: int) -> list[tuple[int, str]]:
    """Return the rows of a set's telling queries, none twice, each with the reason why it is shown."""
    leader = shown[0].ndcg[place]
    order: list[tuple[Any, str]] = [(np.argsort(leader, kind="stable"), f"among the worst of {shown[0].name}")]
    floors = [leader < 1]
    if len(shown) > 1:
        gains = leader - shown[1].ndcg[place]
        order.append((np.argsort(gains, kind="stable"), f"{shown[0].name} loses most to {shown[1].name}"))
        order.append((np.argsort(-gains, kind="stable"), f"{shown[0].name} gains most over {shown[1].name}"))
        floors += [gains < 0, gains > 0]
    chosen: dict[int, str] = {}
    for (rows, why), eligible in zip(order, floors, strict=True):
        fresh = [int(row) for row in rows if eligible[row] and int(row) not in chosen]
        chosen |= dict.fromkeys(fresh[:many], why)
    return list(chosen.items())


def _evaluation(comparison: Comparison, place: int, shown: list[Compared], data: RetrievalSet | None) -> Evaluation:
    one = comparison.sets[place]
    return Evaluation(
        data=_ids_only(comparison, place) if data is None else data,
        split=one.split,
        query_ids=one.query_ids,
        systems=[
            SystemResult(
                name=system.name,
                fingerprint=system.fingerprint,
                seconds=0.0,
                found=system.found[place],
                scores={sections.MAIN: system.ndcg[place]},
                intervals={sections.MAIN: system.per_set[place]},
            )
            for system in shown
        ],
    )


def _ids_only(comparison: Comparison, place: int) -> RetrievalSet:
    """Return a stand-in for a set whose texts are not at hand; relevant is what a system found of the relevant."""
    one = comparison.sets[place]
    grades: dict[str, dict[str, int]] = {query_id: {} for query_id in one.query_ids}
    seen: set[str] = set()
    for system in comparison.systems:
        for query_id, found in zip(one.query_ids, system.found[place], strict=True):
            grades[query_id] |= dict.fromkeys(found.ranks, 1)
            seen.update(found.ranks, (key for key, _ in found.top))
    return RetrievalSet(
        name=one.name,
        corpus={key: Passage(text=key) for key in seen},
        queries={query_id: query_id for query_id in one.query_ids},
        qrels={one.split: grades},
    )
