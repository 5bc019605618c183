"""Rankings of the pool for each distinct query, by the methods that the miners use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zhihui.encoder.cache import CachedEncoder
from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.mining.config import MiningConfig
from zhihui.mining.pool import Pool
from zhihui.ranking import BM25, TopK
from zhihui.records import Example

Query = tuple[str, str | None]
"""Text and instruction; examples that share both share a ranking."""


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """What the methods found."""

    rows: dict[Query, int]
    """Row of each query in every ranking."""
    by_method: dict[str, TopK]
    positive_scores: list[float] | None
    """The encoder's score of each example's best positive; None when no filter needs it."""


def query_of(example: Example) -> Query:
    """Return what an example's rankings depend on."""
    return example.query, example.prompt


def rank(
    examples: Sequence[Example],
    pool: Pool,
    config: MiningConfig,
    *,
    encoder: TextEncoder | None,
    folder: Path | None,
) -> Rankings:
    """Rank the pool by each method, as deep as its windows reach.

    Args:
        examples: whose queries are searched, each distinct one once, in an order of their texts.
        pool: what is searched.
        config: the miners and filters.
        encoder: for dense miners.
        folder: of the embedding cache that lets a killed run go on; None keeps nothing.

    Raises:
        InputError: a dense miner without an encoder.
    """
    queries = sorted({query_of(example) for example in examples}, key=_by_instruction)
    rows = {query: row for row, query in enumerate(queries)}
    by_method: dict[str, TopK] = {}
    positive_scores = None
    if depth := config.depth("bm25"):
        by_method["bm25"] = BM25(pool.texts).search([text for text, _ in queries], min(depth, len(pool)))
    if depth := config.depth("dense"):
        if encoder is None:
            raise InputError("dense mining needs a model; give one (--model), or mine with bm25 alone")
        from zhihui.ranking import exact

        if folder is not None:
            encoder = CachedEncoder(encoder, folder)
        passages = encoder.encode_documents(pool.texts)
        vectors = _encode_queries(queries, encoder)
        by_method["dense"] = exact.search(vectors, passages, min(depth, len(pool)))
        if config.margin is not None or config.ratio is not None:
            positive_scores = _positive_scores(examples, vectors, rows, passages, pool, encoder)
    return Rankings(rows=rows, by_method=by_method, positive_scores=positive_scores)


def _by_instruction(query: Query) -> tuple[bool, str, str]:
    text, instruction = query
    return instruction is not None, instruction or "", text


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
