"""Rankings of the pool for each distinct query, by the methods that the miners use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui.encoder.cache import BLOCK, CachedEncoder
from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.mining.config import MiningConfig
from zhihui.mining.pool import Pool
from zhihui.mining.reranking import Query, query_of, rerank
from zhihui.mining.shards import Shards
from zhihui.ranking import BM25, STOP_WORDS, TopK
from zhihui.ranking.reranker import Reranker
from zhihui.ranking.topk import NONE
from zhihui.records import Example

__all__ = ["Query", "Rankings", "Search", "Sources", "query_of", "rank"]
Search = Callable[[NDArray[np.float32], NDArray[np.float32], int], TopK]
"""From queries `[Q, D]`, passages `[N, D]` and K to the exact ranking `[Q, K]`, ties by the lower index."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The models that rank, and where what they computed is kept."""

    encoder: TextEncoder | None = None
    """For dense miners."""
    reranker: Reranker | None = None
    """For cross miners and filters."""
    folder: Path | None = None
    """Of what lets a killed run go on; the caller removes it. None keeps nothing."""
    cache: Path | None = None
    """Of an embedding cache that other runs share; None keeps vectors in `folder` only."""
    device: str | None = None
    """Where vectors are compared; None takes a GPU if there is one. The ranks are the same everywhere."""
    search: Search | None = None
    """Compares vectors in a way of its own, such as on several machines; None does it here, on `device`."""
    block: int = BLOCK
    """Texts that the encoder is given at once; one of many workers wants more, so that none of them waits."""


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """What the methods found."""

    rows: dict[Query, int]
    """Row of each query in every ranking."""
    by_method: dict[str, TopK] = field(default_factory=dict)
    positive_scores: dict[str, list[float]] = field(default_factory=dict)
    """"dense" and "cross" -> score of each example's best positive; only where a filter needs it."""
    counts: dict[str, Any] = field(default_factory=dict)

    def cross_scores(self, row: int) -> dict[int, float]:
        """Return the cross-encoder's score of each passage it was shown for a query."""
        found = self.by_method["cross"]
        return dict(zip(found.indices[row].tolist(), found.scores[row].tolist(), strict=True))


def rank(examples: Sequence[Example], pool: Pool, config: MiningConfig, sources: Sources) -> Rankings:
    """Rank the pool by each method, as deep as its windows reach.

    Args:
        examples: whose queries are searched, each distinct one once, in an order of their texts.
        pool: what is searched.
        config: the miners and filters.
        sources: the models.

    Raises:
        InputError: a miner or filter without its model.
    """
    _check_given(config, encoder=sources.encoder is not None, reranker=sources.reranker is not None)
    queries = sorted({query_of(example) for example in examples}, key=_by_instruction)
    found = Rankings(rows={query: row for row, query in enumerate(queries)})
    if depth := min(config.depth("bm25"), len(pool)):
        bm25 = BM25(pool.texts, stop_words=STOP_WORDS if config.stop_words else ())
        shards = Shards(sources.folder, "bm25")
        found.by_method["bm25"] = shards.rank(
            len(queries), lambda part: bm25.search([text for text, _ in queries[part]], depth)
        )
    if config.depth("dense"):
        _rank_dense(examples, queries, pool, config, sources, found)
    if sources.reranker is not None and config.reranks:
        windows = _windows(config, found.by_method, len(queries))
        found.by_method["cross"], positives = rerank(
            examples, queries, windows, pool, sources.reranker, Shards(sources.folder, "cross")
        )
        if config.cross_margin is not None or config.cross_ratio is not None:
            found.positive_scores["cross"] = positives
    return found


def check_models(config: MiningConfig, *, encoder: bool, reranker: bool) -> None:
    """Check before a model is loaded that each one is given exactly when it is used.

    Raises:
        InputError: a miner or filter without its model, or a model that nothing uses.
    """
    _check_given(config, encoder=encoder, reranker=reranker)
    if encoder and not config.depth("dense"):
        raise InputError("only dense miners use a model; add one, as in --method dense:10-60:3")
    if reranker and not config.reranks:
        raise InputError("nothing uses the cross-encoder; add a miner, as in --method cross:1-20:4, or --cross-ratio")


def _check_given(config: MiningConfig, *, encoder: bool, reranker: bool) -> None:
    if config.depth("dense") and not encoder:
        raise InputError("dense mining needs a model; give one (--model), or mine with bm25 alone")
    if config.reranks and not reranker:
        raise InputError("cross miners and filters need a cross-encoder; give one (--reranker), or leave them out")


def _by_instruction(query: Query) -> tuple[bool, str, str]:
    text, instruction = query
    return instruction is not None, instruction or "", text


def _windows(config: MiningConfig, by_method: dict[str, TopK], queries: int) -> list[list[int]]:
    """Return for each query the passages within any window of the bm25 and dense miners, ascending."""
    found: list[set[int]] = [set() for _ in range(queries)]
    for miner in config.miners:
        if miner.feeds:
            assert miner.first is not None, "a miner that ranks has a window"
            part = by_method[miner.method].indices[:, miner.first - 1 : miner.last]
            for row, passages in enumerate(part.tolist()):
                found[row].update(passages)
    return [sorted(passages - {NONE}) for passages in found]


# --------------------------------------------------------------------------- dense


def _rank_dense(
    examples: Sequence[Example],
    queries: Sequence[Query],
    pool: Pool,
    config: MiningConfig,
    sources: Sources,
    found: Rankings,
) -> None:
    encoder = sources.encoder
    assert encoder is not None, "rank saw to it"
    folder = sources.cache or sources.folder
    if folder is not None:
        encoder = CachedEncoder(encoder, folder, block=sources.block)
    passages = encoder.encode_documents(pool.texts)
    vectors = _encode_queries(queries, encoder)
    depth = min(config.depth("dense"), len(pool))
    shards = Shards(sources.folder, "dense")
    if config.index == "faiss":
        from zhihui.ranking.inverted import InvertedFile

        index = InvertedFile(passages, seed=config.seed)
        found.by_method["dense"] = shards.rank(len(queries), lambda part: index.search(vectors[part], depth))
        found.counts["faiss"] = index.report(vectors, depth)
    else:
        search = sources.search or _search_on(sources.device)
        found.by_method["dense"] = shards.rank(len(queries), lambda part: search(vectors[part], passages, depth))
    if config.margin is not None or config.ratio is not None:
        found.positive_scores["dense"] = _positive_scores(examples, vectors, found.rows, passages, pool, encoder)


def _search_on(device: str | None) -> Search:
    import torch

    from zhihui.ranking import exact

    return partial(exact.search, device=device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _encode_queries(queries: Sequence[Query], encoder: TextEncoder) -> NDArray[np.float32]:
    parts = []
    for instruction, group in groupby(queries, key=lambda query: query[1]):
        parts.append(encoder.encode_queries([text for text, _ in group], instruction=instruction))
    return np.concatenate(parts)


def _positive_scores(
    examples: Sequence[Example],
    queries: NDArray[np.float32],
    rows: dict[Query, int],
    passages: NDArray[np.float32],
    pool: Pool,
    encoder: TextEncoder,
) -> list[float]:
    """Return each example's highest inner product of its query and a positive of its own."""
    outside = sorted({text for example in examples for text in example.pos if not pool.find(text)})
    number = {text: index for index, text in enumerate(outside)}
    extra = np.empty((0, passages.shape[1]), dtype=np.float32)
    if outside:
        extra = encoder.encode_documents(outside)
    scores = []
    for example in examples:
        inside = sorted(pool.positives(example))
        own = [number[text] for text in example.pos if text in number]
        vectors = np.concatenate([passages[inside], extra[own]])
        scores.append(float((vectors @ queries[rows[query_of(example)]]).max()))
    return scores
