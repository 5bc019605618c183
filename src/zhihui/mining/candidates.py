"""Rankings of the pool for each distinct query, by the methods that the miners use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.mining.config import MiningConfig
from zhihui.mining.pool import Pool
from zhihui.mining.vectors import encode_in_blocks
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
        folder: where vectors are kept for a run that is killed and goes on.

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

        passages = encode_in_blocks(pool.texts, encoder.encode_documents, folder=folder, role="passages")
        vectors = _encode_queries(queries, encoder, folder)
        by_method["dense"] = exact.search(vectors, passages, min(depth, len(pool)))
        if config.margin is not None or config.ratio is not None:
            positive_scores = _positive_scores(examples, vectors, rows, passages, pool, encoder=encoder, folder=folder)
    return Rankings(rows=rows, by_method=by_method, positive_scores=positive_scores)


def _by_instruction(query: Query) -> tuple[bool, str, str]:
    text, instruction = query
    return instruction is not None, instruction or "", text


def _encode_queries(queries: Sequence[Query], encoder: TextEncoder, folder: Path | None) -> NDArray[np.float32]:
    parts = []
    for number, (instruction, group) in enumerate(groupby(queries, key=lambda query: query[1])):

        def encode(texts: Sequence[str], instruction: str | None = instruction) -> NDArray[np.float32]:
            return encoder.encode_queries(texts, instruction=instruction)

        texts = [text for text, _ in group]
        parts.append(encode_in_blocks(texts, encode, folder=folder, role=f"queries-{number}"))
    return np.concatenate(parts)


def _positive_scores(
    examples: Sequence[Example],
    queries: NDArray[np.float32],
    rows: dict[Query, int],
    passages: NDArray[np.float32],
    pool: Pool,
    *,
    encoder: TextEncoder,
    folder: Path | None,
) -> list[float]:
    """Return each example's highest inner product of its query and a positive of its own."""
    outside = sorted({text for example in examples for text in example.pos if not pool.find(text)})
    number = {text: index for index, text in enumerate(outside)}
    extra = np.empty((0, passages.shape[1]), dtype=np.float32)
    if outside:
        extra = encode_in_blocks(outside, encoder.encode_documents, folder=folder, role="positives")
    scores = []
    for example in examples:
        inside = sorted(pool.positives(example))
        own = [number[text] for text in example.pos if text in number]
        vectors = np.concatenate([passages[inside], extra[own]])
        scores.append(float((vectors @ queries[rows[query_of(example)]]).max()))
    return scores
