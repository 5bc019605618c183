"""Sample searches with an exported model, loaded the way its users will load it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zhihui.encoder.export_check import hushed
from zhihui.encoder.protocol import TextEncoder
from zhihui.ranking import exact
from zhihui.records import RetrievalSet
from zhihui.runs import read_json, write_json

TOP = 3


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A passage found."""

    id: str
    text: str
    score: float
    """Cosine of query and passage."""


@dataclass(frozen=True, kw_only=True)
class Search:
    """A query and what was found for it, best first."""

    query: str
    hits: list[Hit]


def search_export(
    model: Path, data: RetrievalSet, query_ids: Sequence[str], passages: TextEncoder, *, top: int = TOP
) -> list[Search]:
    """Search a corpus with queries encoded by plain sentence-transformers.

    Args:
        model: exported folder.
        data: corpus and queries.
        query_ids: which queries.
        passages: gives the passages' vectors, those of the same model.
        top: passages a query.
    """
    from sentence_transformers import SentenceTransformer

    texts = [data.queries[query_id] for query_id in query_ids]
    with hushed():
        exported: Any = SentenceTransformer(str(model), device="cpu")
    vectors = exported.encode(texts, prompt_name="query", normalize_embeddings=True, show_progress_bar=False)
    corpus = passages.encode_documents([passage.full for passage in data.corpus.values()])
    found = exact.search(np.asarray(vectors, dtype=np.float32), corpus, min(top, len(corpus)))
    ids = list(data.corpus)
    return [
        Search(
            query=query,
            hits=[
                Hit(id=ids[index], text=data.corpus[ids[index]].full, score=round(float(score), 4))
                for index, score in zip(indices, scores, strict=True)
            ],
        )
        for query, indices, scores in zip(texts, found.indices.tolist(), found.scores.tolist(), strict=True)
    ]


def write_searches(path: Path, searches: Sequence[Search]) -> None:
    """Write searches as JSON."""
    write_json(path, [asdict(search) for search in searches])


def read_searches(path: Path) -> list[Search]:
    """Read what `write_searches` wrote."""
    return [Search(query=one["query"], hits=[Hit(**hit) for hit in one["hits"]]) for one in read_json(path)]
