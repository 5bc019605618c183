"""The windows of the other miners scored by a cross-encoder, which reads query and passage together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import RunFailure
from zhihui.mining.pool import Pool
from zhihui.mining.shards import Shards
from zhihui.progress import bar
from zhihui.ranking import TopK
from zhihui.ranking.reranker import Reranker
from zhihui.records import Example

Query = tuple[str, str | None]
"""Text and instruction; examples that share both share a ranking."""
_SHARD = 64
"""Queries whose pairs are scored and kept together: some thousand pairs, minutes for a large model."""


def query_of(example: Example) -> Query:
    """Return what an example's rankings depend on."""
    return example.query, example.prompt


def rerank(
    examples: Sequence[Example],
    queries: Sequence[Query],
    candidates: Sequence[Sequence[int]],
    pool: Pool,
    reranker: Reranker,
    shards: Shards,
) -> tuple[TopK, list[float]]:
    """Score each query with its candidates and with its positives.

    Args:
        examples: with the positives.
        queries: the distinct ones, those of one instruction together.
        candidates: passages of the pool for each query, ascending.
        pool: the passages.
        reranker: the cross-encoder.
        shards: where scores are kept.

    Returns:
        The candidates by score `[Q, K]`, and the score of each example's best positive.

    Raises:
        RunFailure: the reranker returned another number of scores, or one that is not finite.
    """
    texts = [[pool.texts[passage] for passage in passages] for passages in candidates]
    row = {query: number for number, query in enumerate(queries)}
    own = [_positive_texts(example, pool) for example in examples]
    for example, positives in zip(examples, own, strict=True):
        texts[row[query_of(example)]] += positives
    distinct = [list(dict.fromkeys(each)) for each in texts]
    scores = _scores(queries, distinct, reranker, shards)
    found = TopK.empty(len(queries), max(1, max(map(len, candidates), default=1)))
    for number, passages in enumerate(candidates):
        # Candidates come first among a query's texts, in their order; the pool's texts are distinct.
        listed = scores[number][: len(passages)]
        order = np.lexsort((np.arange(len(passages)), -listed))
        found.indices[number, : len(passages)] = np.asarray(passages, dtype=np.int64)[order]
        found.scores[number, : len(passages)] = listed[order]
    best = []
    for example, positives in zip(examples, own, strict=True):
        number = row[query_of(example)]
        score = dict(zip(distinct[number], scores[number].tolist(), strict=True))
        best.append(max(score[text] for text in positives))
    return found, best


def _positive_texts(example: Example, pool: Pool) -> list[str]:
    inside = [pool.texts[passage] for passage in sorted(pool.positives(example))]
    return [*inside, *(text for text in example.pos if not pool.find(text))]


def _scores(
    queries: Sequence[Query], texts: Sequence[Sequence[str]], reranker: Reranker, shards: Shards
) -> list[NDArray[np.float32]]:
    found: list[NDArray[np.float32]] = []
    with bar(len(queries), "re-rank") as progress:
        for start in range(0, len(queries), _SHARD):
            part = range(start, min(start + _SHARD, len(queries)))
            kept = shards.keep(start, lambda part=part: {"scores": _score(part, queries, texts, reranker)})  # type: ignore[misc]
            ends = np.cumsum([len(texts[number]) for number in part])
            found += np.split(kept["scores"], ends[:-1])
            progress.advance(len(part))
    return found


def _score(
    part: range, queries: Sequence[Query], texts: Sequence[Sequence[str]], reranker: Reranker
) -> NDArray[np.float32]:
    parts = []
    for instruction, group in groupby(part, key=lambda number: queries[number][1]):
        numbers = list(group)
        asked = [queries[number][0] for number in numbers for _ in texts[number]]
        passages = [text for number in numbers for text in texts[number]]
        scores = np.asarray(reranker.score(asked, passages, instruction=instruction), dtype=np.float32)
        if scores.shape != (len(passages),) or not np.isfinite(scores).all():
            raise RunFailure(f"{reranker.name} returned scores {list(scores.shape)} for {len(passages)} pairs, or NaN")
        parts.append(scores)
    return np.concatenate(parts)
