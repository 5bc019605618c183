"""The LanceDB backend: an approximate index on the vectors (IVF, Sivic & Zisserman 2003), filters pushed down to it.

Vectors are quantised to bytes in cells around learnt centres; of the cells nearest to a query more passages are taken
than are asked for and scored again with the vectors themselves, so that what is found has exactly the flat backend's
scores and order. What is missed is measured when the index is written, and more cells are searched till recall is good.
Where that takes so many cells that reading all vectors is sooner, all vectors are read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import require
from zhihui.ranking import TopK
from zhihui.search.columns import read_columns
from zhihui.search.filters import Condition, to_sql
from zhihui.search.flat import FlatVectors

_FOLDER, _TABLE = "lance", "passages"
_BATCH = 4096
REFINE = 4
"""Times the passages asked for that are scored again."""
GOAL = 0.99
"""Recall of the best 10 that is reached, if need be by reading all vectors."""
_WORTH = 3
"""Share of the cells, one in so many, beyond which reading all vectors is sooner (measured, docs/search.md)."""
_SAMPLE = 64  # queries by which recall is measured
_MOVED = 3**0.5  # as far as 60 degrees
_SPARE = 4  # times the passages asked for that the searched cells should hold


def write_lance(folder: Path, *, ann_from: int) -> dict[str, Any] | None:
    """Write the table of a generation, and the approximate index if there are passages enough.

    Returns:
        How the index is to be searched and what it finds; None where the search is exact.

    Raises:
        MissingExtra: lancedb is not installed.
    """
    lancedb = _lancedb()
    arrow = require("pyarrow", extra="search", purpose="the lancedb backend")
    vectors = FlatVectors(folder)
    columns = read_columns(folder)
    names = column_names(columns.column_names)
    kind = arrow.float16() if vectors.stored.dtype == np.float16 else arrow.float32()
    schema = arrow.schema(
        [
            ("row", arrow.int64()),
            ("vector", arrow.list_(kind, vectors.stored.shape[1])),
            *((names[field.name], field.type) for field in columns.schema),
        ]
    )

    def batches() -> Iterator[Any]:
        for start in range(0, len(vectors.stored), _BATCH):
            part = np.ascontiguousarray(vectors.stored[start : start + _BATCH])
            numbers = arrow.array(np.arange(start, start + len(part)))
            values = arrow.FixedSizeListArray.from_arrays(arrow.array(part.ravel()), part.shape[1])
            cells = [column.combine_chunks() for column in columns.slice(start, len(part)).columns]
            yield arrow.RecordBatch.from_arrays([numbers, values, *cells], schema=schema)

    table = lancedb.connect(str(folder / _FOLDER)).create_table(_TABLE, data=batches(), schema=schema)
    if len(vectors.stored) < ann_from:
        return None
    from lancedb.index import IvfSq

    cells = max(1, round(math.sqrt(len(vectors.stored))))
    table.create_index("vector", config=IvfSq(distance_type="dot", num_partitions=cells))
    table_of = LanceVectors(folder, vectors, {"cells": cells, "probed": cells, "exact_below": ann_from})
    tuned = _tuned(table_of, vectors, cells)
    return {"kind": "IVF_SQ" if tuned["probed"] < cells else "exact", "exact_below": ann_from, **tuned}


class LanceVectors:
    """The table of a generation."""

    def __init__(self, folder: Path, flat: FlatVectors, ann: Mapping[str, Any] | None) -> None:
        """Open the table.

        Args:
            folder: of the generation.
            flat: its vectors, which score what the index finds.
            ann: as `write_lance` returned it.
        """
        self._table = _lancedb().connect(str(folder / _FOLDER)).open_table(_TABLE)
        self._flat = flat
        self._ann = ann
        self._names = column_names(read_columns(folder).column_names)

    def rank(
        self,
        query: NDArray[np.float32],
        k: int,
        *,
        conditions: Sequence[Condition] = (),
        allowed: NDArray[np.bool_] | None = None,
    ) -> TopK:
        """Return the k best passages, `[1, k]`; equal ones by the lower number.

        Args:
            query: `[D]`.
            k: passages to return.
            conditions: a filter, which LanceDB applies before it searches.
            allowed: `[N]`, the passages that meet it.
        """
        ann = self._ann
        count = len(self._flat.stored) if allowed is None else int(allowed.sum())
        if ann is None or count < ann["exact_below"]:
            return self._flat.rank(query, k, allowed=allowed)
        # The fewer passages a filter leaves in a cell, and the more are wanted, the more cells are searched.
        cells = ann["cells"]
        needed = max(ann["probed"] * len(self._flat.stored), _SPARE * k * cells) // count
        if needed > max(1, cells // _WORTH):
            return self._flat.rank(query, k, allowed=allowed)
        return self.approximate(query, k, needed, conditions)

    def approximate(
        self, query: NDArray[np.float32], k: int, probed: int, conditions: Sequence[Condition] = ()
    ) -> TopK:
        """Return the k best passages of the cells nearest to the query."""
        search = self._table.search(query, vector_column_name="vector").distance_type("dot").nprobes(probed)
        if conditions:
            search = search.where(to_sql(conditions, self._names), prefilter=True)
        # Not LanceDB's own refinement: what it scores again would be read a second time here.
        candidates = min(REFINE * k, len(self._flat.stored))
        rows = search.select(["row", "_distance"]).limit(candidates).to_arrow()["row"]
        return self._flat.settle(query, np.sort(rows.to_numpy()).astype(np.intp), k)


def column_names(fields: Sequence[str]) -> dict[str, str]:
    """Return the name a field has in the table: one that SQL takes without quotes, whatever the field is called."""
    return {field: f"field_{number}" for number, field in enumerate(fields)}


def _tuned(table: LanceVectors, flat: FlatVectors, cells: int) -> dict[str, Any]:
    """Search more and more cells until recall is good, or until reading all vectors is sooner.

    Queries are no passages, and lie further from them than they from one another: the vectors of some are moved away,
    to a cosine of about 0.5.
    """
    generator = np.random.default_rng(0)
    sample = np.sort(generator.choice(len(flat.stored), min(_SAMPLE, len(flat.stored)), replace=False))
    near = _unit(np.asarray(flat.stored[sample], dtype=np.float32))
    queries = _unit(near + _MOVED * _unit(generator.standard_normal(near.shape, dtype=np.float32)))
    wanted = [flat.rank(query, 10).scores[0] for query in queries]
    most = max(1, cells // _WORTH)
    probed = min(most, max(4, cells // 32))
    while True:
        # By score, so that one of several passages that tie for the last rank is as good as another.
        found = [table.approximate(query, 10, probed).scores[0] for query in queries]
        recall = float(np.mean([(f >= w[w > -np.inf].min()).mean() for f, w in zip(found, wanted, strict=True)]))
        if recall >= GOAL:
            return {"cells": cells, "probed": probed, "refine": REFINE, "recall": round(recall, 4)}
        if probed == most:
            return {"cells": cells, "probed": cells, "refine": REFINE, "recall": 1.0}
        probed = min(most, probed + max(1, probed // 2))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale vectors to unit length; one of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _lancedb() -> Any:
    return require("lancedb", extra="search", purpose="the lancedb backend")
