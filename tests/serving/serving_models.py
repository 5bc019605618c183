"""Models to serve in tests: a tiny real one, and ones that wait, fail or give nonsense when told to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from zhihui.serving.models import ServedModel

TEXTS = [
    "清晨的湖面上飘着一层薄薄的雾气。",
    "租房押金不退怎么办？",
    "泡绿茶的水温不要超过八十五度，否则茶汤会发苦。",
    "自行车链条生锈了，可以先用旧牙刷刷干净再上油。",
    "高铁从北京到上海最快只要四个多小时。",
    "Python 里怎样把列表倒序？用 reversed 或者切片 [::-1]。",
    "",
    "出租人无正当理由不退还押金的，承租人可以向人民法院起诉。" * 9,
]

PASSAGES = [
    {"text": "租房合同到期后，房东应当在七日内退还押金。", "title": "押金", "year": 2020, "lang": "zh"},
    {"text": "如有损坏，可以从押金中扣除维修费用。", "title": "扣除", "year": 2021, "lang": "zh", "big": 10**30},
    {"text": "高铁从北京到上海最快只要四个多小时。", "title": "高铁", "year": 2022, "lang": "zh"},
    {
        "text": "𠮷野家😀的押金条<script>document.title='x'</script><img src=x onerror=\"document.title='x'\">",
        "year": 2023,
    },
    {"text": "泡绿茶的水温不要超过八十五度，否则茶汤会发苦。", "title": "<b>泡茶</b>", "year": 2024},
]
"""Rows of a small index; one tries to be more than text."""


@dataclass(frozen=True, kw_only=True)
class WaitingModel(ServedModel):
    """Computes a batch only when the gate is open, and counts what it computed."""

    gate: threading.Event = field(default_factory=threading.Event)
    began: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)
    """Texts of each batch."""
    seconds: float = 0.0
    """What a batch takes."""

    def compute(self, units: Any, worker: int, *, exact: bool = False) -> Any:
        self.began.set()
        assert self.gate.wait(30), "the test never opened the gate"
        if self.seconds:
            threading.Event().wait(self.seconds)
        self.batches.append(len(units))
        return super().compute(units, worker, exact=exact)


@dataclass(frozen=True, kw_only=True)
class BrokenModel(ServedModel):
    """Fails on texts of some lengths in tokens."""

    raises: int = -1
    """A batch with a text of so many tokens raises."""
    never_finite: int = -1
    """A text of so many tokens gives NaN."""
    finite_in_fp32: int = -1
    """A text of so many tokens gives infinity, but in fp32."""

    def compute(self, units: Any, worker: int, *, exact: bool = False) -> Any:
        lengths = np.array([len(ids) for ids in units])
        if (lengths == self.raises).any():
            raise RuntimeError("CUDA error: device-side assert triggered")
        vectors = super().compute(units, worker, exact=exact)
        vectors[lengths == self.never_finite, 0] = np.nan
        if not exact:
            vectors[lengths == self.finite_in_fp32, 0] = np.inf
        return vectors


def like(model: ServedModel, kind: type[ServedModel], **more: Any) -> Any:
    """Return a model of another kind with the same weights."""
    return kind(**{each.name: getattr(model, each.name) for each in fields(ServedModel)} | more)
