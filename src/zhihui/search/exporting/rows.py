"""What every export writes of a passage, and vectors in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui import progress
from zhihui.search.index import Index

_BLOCK = 1024


def blocks(index: Index) -> Iterator[tuple[list[dict[str, Any]], NDArray[np.float32]]]:
    """Yield the rows of some passages (`_id`, `title`, `text`, `metadata`) and their vectors `[n, D]`."""
    with progress.bar(len(index), "Exporting") as bar:
        for start in range(0, len(index), _BLOCK):
            end = min(start + _BLOCK, len(index))
            yield [index.row(number) for number in range(start, end)], index.vectors(start, end)
            bar.advance(end - start)
