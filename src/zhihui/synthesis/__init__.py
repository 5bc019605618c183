"""Synthesis: examples made and bettered by teachers: distil, refine, rewrite, expand (points 1 to 4 of the method)."""

from __future__ import annotations

from zhihui.synthesis.expand import ExpandConfig
from zhihui.synthesis.label import LabelConfig
from zhihui.synthesis.query import QueryConfig
from zhihui.synthesis.refine import RefineConfig
from zhihui.synthesis.rewrite import RewriteConfig
from zhihui.synthesis.triplet import TripletConfig

__all__ = ["ExpandConfig", "LabelConfig", "QueryConfig", "RefineConfig", "RewriteConfig", "TripletConfig"]
