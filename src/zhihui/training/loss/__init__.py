"""Hardness-weighted InfoNCE in closed form: loss and gradients row by row, without a graph over the similarities.

For query i and its positive d⁺, with cosine s and temperature τ,

    loss = -ln( e^{s(q,d⁺)/τ} / Z ),     Z = e^{s(q,d⁺)/τ} + Σ_j w_j e^{s_j/τ}

over the negatives j that no mask removes. The negatives are other queries' passages, the query's own hard negatives,
passages from a memory of earlier batches and, when asked for, the further terms of GTE's improved loss.

    config        the settings
    layout        which passage belongs to which query, and how
    known         the pairs that no loss may push apart
    weights       w, from how hard a negative is
    softmax       loss and slopes of a row
    chunk         some rows: similarities, masks, gradients
    distillation  soft targets from a teacher's grades
    prefixes      Matryoshka
    temperature   τ as something to train
    closed_form   `info_nce`: all of it together

Everything is computed in fp32 whatever the encoder's dtype: at τ = 0.01 a bf16 similarity moves a logit by 0.2.
"""

from __future__ import annotations

from zhihui.training.loss.closed_form import Gradients, info_nce
from zhihui.training.loss.config import LossConfig
from zhihui.training.loss.known import Masked
from zhihui.training.loss.layout import Layout, equality_keys
from zhihui.training.loss.temperature import LearnedTemperature

__all__ = ["Gradients", "Layout", "LearnedTemperature", "LossConfig", "Masked", "equality_keys", "info_nce"]
