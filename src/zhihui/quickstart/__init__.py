"""Quickstart: the whole system once, on one retrieval set: the data engine, mine, train, measure, export, search."""

from __future__ import annotations

from zhihui.quickstart.pipeline import QuickstartConfig, quickstart

__all__ = ["QuickstartConfig", "quickstart"]
