"""Corpus preparation: documents of any format become clean passages of even size, each with its place."""

from __future__ import annotations

from zhihui.corpus.config import ChunkConfig

__all__ = ["ChunkConfig"]
