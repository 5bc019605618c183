"""Milvus: Parquet files for its import, and the request that creates the collection.

    collection.json           body of POST /v2/vectordb/collections/create
    part-000000.parquet ...   id, title, text, vector, and `$meta`: the rest as JSON, Milvus' dynamic field

As Milvus' own bulk writer has it: a float vector is a list of float32, JSON is text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from zhihui.errors import InputError, require
from zhihui.runs import atomic_open, write_json
from zhihui.search.exporting.rows import blocks
from zhihui.search.index import Index

_LONGEST = 65_535  # bytes of a VarChar
_PART = 2**28  # bytes of vectors in a file, about; Milvus takes up to 16 GB


def write(index: Index, folder: Path) -> None:
    """Write the files.

    Raises:
        InputError: a text longer than Milvus takes.
    """
    arrow = require("pyarrow", extra="search", purpose="exporting to Milvus")
    parquet = require("pyarrow.parquet", extra="search", purpose="exporting to Milvus")
    write_json(folder / "collection.json", _collection(index.description.dimension))
    text = arrow.string()
    schema = arrow.schema(
        [("id", text), ("title", text), ("text", text), ("vector", arrow.list_(arrow.float32())), ("$meta", text)]
    )
    tables: list[Any] = []
    part = held = 0

    def flush() -> None:
        nonlocal part, held
        with atomic_open(folder / f"part-{part:06d}.parquet", "wb") as stream:
            parquet.write_table(arrow.concat_tables(tables), stream, compression="zstd")
        tables.clear()
        part, held = part + 1, 0

    for rows, vectors in blocks(index):
        for row in rows:
            for name in ("_id", "title", "text"):
                if len(row[name].encode()) > _LONGEST:
                    raise InputError(
                        f"{row['_id'][:80]}: its {name} has over {_LONGEST:,} bytes, and Milvus takes no more; "
                        "index the documents in smaller passages (--cut, --size)"
                    )
        offsets = arrow.array(np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1])
        columns = [
            [row["_id"] for row in rows],
            [row["title"] for row in rows],
            [row["text"] for row in rows],
            arrow.ListArray.from_arrays(offsets, arrow.array(vectors.ravel())),
            [json.dumps(row["metadata"], ensure_ascii=False) for row in rows],
        ]
        tables.append(arrow.table(dict(zip(schema.names, columns, strict=True)), schema=schema))
        held += vectors.nbytes
        if held >= _PART:
            flush()
    if tables:
        flush()


def _collection(dimension: int) -> dict[str, Any]:
    def varchar(name: str, length: int) -> dict[str, Any]:
        return {"fieldName": name, "dataType": "VarChar", "elementTypeParams": {"max_length": length}}

    return {
        "collectionName": "zhihui",
        "schema": {
            "autoID": False,
            "enableDynamicField": True,
            "fields": [
                {**varchar("id", _LONGEST), "isPrimary": True},
                varchar("title", _LONGEST),
                varchar("text", _LONGEST),
                {"fieldName": "vector", "dataType": "FloatVector", "elementTypeParams": {"dim": dimension}},
            ],
        },
        "indexParams": [{"fieldName": "vector", "indexName": "vector", "metricType": "IP", "indexType": "AUTOINDEX"}],
    }
