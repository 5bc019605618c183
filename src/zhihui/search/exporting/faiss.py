"""faiss: a flat index of inner products, and beside it a row for each of its numbers.

index.faiss     faiss.read_index
passages.jsonl  line n, counted from 0, is the passage of vector n
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zhihui.errors import require
from zhihui.records import write_rows
from zhihui.search.exporting.rows import blocks
from zhihui.search.index import Index


def write(index: Index, folder: Path) -> None:
    """Write the files."""
    faiss = require("faiss", extra="faiss", purpose="exporting to faiss")
    flat = faiss.IndexFlatIP(index.description.dimension)

    def rows() -> Iterator[dict[str, Any]]:
        for some, vectors in blocks(index):
            flat.add(vectors)
            yield from some

    write_rows(folder / "passages.jsonl", rows())
    faiss.write_index(flat, str(folder / "index.faiss"))
