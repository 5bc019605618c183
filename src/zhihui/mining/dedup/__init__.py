"""Dedup: training examples without those that repeat another one or that an evaluation asks for."""

from __future__ import annotations

from zhihui.mining.dedup.config import DedupConfig

__all__ = ["DedupConfig"]
