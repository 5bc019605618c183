"""Ranking: the retrievers that mining, evaluation and search share."""

from __future__ import annotations

from zhihui.ranking.bm25 import BM25
from zhihui.ranking.fusion import DENSE_SHARE, reciprocal_rank_fusion, score_fusion
from zhihui.ranking.segmentation import segment, segment_all
from zhihui.ranking.stop_words import STOP_WORDS
from zhihui.ranking.topk import TopK

__all__ = [
    "BM25",
    "DENSE_SHARE",
    "STOP_WORDS",
    "TopK",
    "reciprocal_rank_fusion",
    "score_fusion",
    "segment",
    "segment_all",
]
