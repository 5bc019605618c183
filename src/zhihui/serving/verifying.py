"""Verifying: before a server starts, its vectors against sentence-transformers' own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import torch

from zhihui.encoder.container import first_line
from zhihui.encoder.export_check import hushed
from zhihui.encoder.settings import Role
from zhihui.errors import RunFailure, require
from zhihui.serving.models import ServedModel
from zhihui.serving.preparing import Cutting, prepare
from zhihui.serving.prompting import choose

_TEXTS = (
    "好",
    "租房押金不退怎么办？",
    "干香菇先冲去浮灰，再用温水泡半小时，水里加一小撮白糖，泡得快而且香味不易流失。",
    "China 2024 年的 GDP 是多少，\n比上一年增长了百分之几？",
)
_APART = 1e-5
"""Most that a cosine may be below 1 in fp32."""
_APART_HALF = 1e-3
"""The same in half precision, where each library rounds at its own places."""


def verify(model: ServedModel, texts: Sequence[str] = _TEXTS) -> float:
    """Return the least cosine between what is served and what sentence-transformers gives for the same texts.

    Each device's copy is tried, bare and with each prompt.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        RunFailure: it cannot load the model, or a cosine is too low.
    """
    library = require("sentence_transformers", extra="eval", purpose="--verify")
    least = 1.0
    try:
        with hushed():
            peer: Any = library.SentenceTransformer(
                model.source, device=str(model.encoder.device), model_kwargs={"dtype": model.encoder.dtype}
            )
            peer.max_seq_length = model.encoder.settings.max_length
            theirs = {role: _by_peer(peer, model, role, texts) for role in (None, *get_args(Role))}
    except Exception as error:  # whatever it raises, it cannot vouch for the model
        raise RunFailure(f"{model.name}: sentence-transformers cannot use it ({first_line(error)})") from None
    for role, expected in theirs.items():
        ids, _ = prepare(model, texts, choose(model, role=role), Cutting())
        for worker in range(len(model.copies)):
            found = model.compute(ids, worker)
            norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
            cosine = float(((found * expected).sum(1) / norms).min())
            most = _APART if model.encoder.dtype == torch.float32 else _APART_HALF
            if not cosine >= 1 - most:  # NaN is too low as well
                raise RunFailure(
                    f"{model.name}: {role or 'bare'} vectors have a cosine of only {cosine:.7f} with those of "
                    f"sentence-transformers; 1 - {most:g} is wanted. `zhihui export` writes a folder both read alike"
                )
            least = min(least, cosine)
    return least


def _by_peer(peer: Any, model: ServedModel, role: Role | None, texts: Sequence[str]) -> np.ndarray[Any, Any]:
    prompt = "" if role is None else model.encoder.settings.prompt(role)
    vectors = peer.encode(list(texts), prompt=prompt, convert_to_tensor=True, show_progress_bar=False)
    return vectors.float().cpu().numpy()
