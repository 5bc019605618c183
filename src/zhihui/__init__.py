"""zhihui makes, measures and serves Chinese text-retrieval embedding models built on decoder-only LLMs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Encoder", "InputError", "RunFailure", "__version__", "load"]

if TYPE_CHECKING:
    from zhihui.encoder import Encoder, load
    from zhihui.errors import InputError, RunFailure

_HOME = {
    "Encoder": "zhihui.encoder",
    "load": "zhihui.encoder",
    "InputError": "zhihui.errors",
    "RunFailure": "zhihui.errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name on first use: `import zhihui` itself must stay free of torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'zhihui' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)
