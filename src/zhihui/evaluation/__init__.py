"""Evaluation: retrieval systems measured with mteb's metrics, with intervals, and a report to look at."""

from __future__ import annotations

from zhihui.evaluation.bootstrap import Interval, interval, paired_difference
from zhihui.evaluation.metrics import METRICS, score_run
from zhihui.evaluation.report import Curve, write_report, write_results_json
from zhihui.evaluation.run import Evaluation, Found, SystemResult, evaluate
from zhihui.evaluation.systems import Bm25System, DenseSystem, HybridSystem, RankFusionSystem, RetrievalSystem

__all__ = [
    "METRICS",
    "Bm25System",
    "Curve",
    "DenseSystem",
    "Evaluation",
    "Found",
    "HybridSystem",
    "Interval",
    "RankFusionSystem",
    "RetrievalSystem",
    "SystemResult",
    "evaluate",
    "interval",
    "paired_difference",
    "score_run",
    "write_report",
    "write_results_json",
]
