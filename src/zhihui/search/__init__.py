"""Search: documents become an index on disk that is searched by words, by vectors, or by both.

    with open_index("index") as index:
        hits = index.search("租房押金怎么退", encoder=index.load_encoder(), top_k=5)

`update_index` writes one, and brings it up to date.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zhihui.search.config import IndexConfig
    from zhihui.search.description import IndexDescription
    from zhihui.search.hit import Hit, Score
    from zhihui.search.index import Index, open_index
    from zhihui.search.queries import Overlong, overlong
    from zhihui.search.writing import IndexReport, update_index

__all__ = [
    "Hit",
    "Index",
    "IndexConfig",
    "IndexDescription",
    "IndexReport",
    "Overlong",
    "Score",
    "open_index",
    "overlong",
    "update_index",
]

_HOME = {
    "IndexConfig": "config",
    "IndexDescription": "description",
    "Hit": "hit",
    "Score": "hit",
    "Index": "index",
    "open_index": "index",
    "Overlong": "queries",
    "overlong": "queries",
    "IndexReport": "writing",
    "update_index": "writing",
}


def __getattr__(name: str) -> Any:
    """Import on first use: most modules here need numpy, and the command line must answer at once."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
