"""Text to token ids to vectors: prompts, attention, pooling, loading, encoding, export."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zhihui.encoder.cache import CachedEncoder
    from zhihui.encoder.devices import ParallelEncoder
    from zhihui.encoder.encoder import Encoder
    from zhihui.encoder.fresh import SHAPES, build
    from zhihui.encoder.loading import load
    from zhihui.encoder.protocol import TextEncoder
    from zhihui.encoder.settings import DEFAULT_TASK, EncoderSettings, query_prompt

__all__ = [
    "DEFAULT_TASK",
    "SHAPES",
    "CachedEncoder",
    "Encoder",
    "EncoderSettings",
    "ParallelEncoder",
    "TextEncoder",
    "build",
    "load",
    "query_prompt",
]

_HOME = {
    "Encoder": "encoder",
    "EncoderSettings": "settings",
    "DEFAULT_TASK": "settings",
    "query_prompt": "settings",
    "SHAPES": "fresh",
    "build": "fresh",
    "load": "loading",
    "TextEncoder": "protocol",
    "CachedEncoder": "cache",
    "ParallelEncoder": "devices",
}


def __getattr__(name: str) -> Any:
    """Import on first use: most modules here need torch, and the command line must answer at once."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
