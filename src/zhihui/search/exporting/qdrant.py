"""Qdrant: points as JSON lines, and the request that creates the collection.

    collection.json   body of PUT /collections/NAME
    points.jsonl      points for PUT /collections/NAME/points, as {"points": [...]}

A point's id is a UUID made of the passage's id, since Qdrant takes no other text; the passage's own is in the payload.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zhihui.records import write_rows
from zhihui.runs import write_json
from zhihui.search.exporting.rows import blocks
from zhihui.search.index import Index


def write(index: Index, folder: Path) -> None:
    """Write the files."""
    vectors = {"size": index.description.dimension, "distance": "Dot"}
    if index.description.config["store_dtype"] == "float16":
        vectors["datatype"] = "float16"
    write_json(folder / "collection.json", {"vectors": vectors})
    write_rows(folder / "points.jsonl", _points(index))


def _points(index: Index) -> Iterator[dict[str, Any]]:
    for rows, vectors in blocks(index):
        for row, vector in zip(rows, vectors, strict=True):
            payload = {"id": row["_id"], "title": row["title"], "text": row["text"], "metadata": row["metadata"]}
            yield {"id": str(uuid.uuid5(uuid.NAMESPACE_OID, row["_id"])), "vector": vector.tolist(), "payload": payload}
