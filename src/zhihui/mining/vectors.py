"""Vectors in blocks that survive a killed run: encoding is the dear part of dense mining."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import RunFailure
from zhihui.runs import atomic_open

_BLOCK = 8192


def encode_in_blocks(
    texts: Sequence[str],
    encode: Callable[[Sequence[str]], NDArray[np.float32]],
    *,
    folder: Path | None,
    role: str,
    block: int = _BLOCK,
) -> NDArray[np.float32]:
    """Return the vectors `[N, D]` of at least one text, each block kept in a file as soon as it is there.

    Args:
        texts: what to encode; of a resumed run exactly those of the first attempt.
        encode: texts -> `[n, D]`.
        folder: where blocks are kept, and found again; None keeps nothing.
        role: names the files of these texts.
        block: texts in a file.

    Raises:
        RunFailure: the encoder returned another number of vectors, or not vectors of one length.
    """
    assert len(texts), "nothing to encode has no dimension"
    vectors = np.empty((0, 0), dtype=np.float32)
    for start in range(0, len(texts), block):
        part = texts[start : start + block]
        file = None if folder is None else folder / f"{role}-{start:09d}.npy"
        if file is not None and file.is_file():
            fresh = np.load(file)
        else:
            fresh = np.asarray(encode(part), dtype=np.float32)
            if file is not None:
                with atomic_open(file, "wb") as stream:
                    np.save(stream, fresh)
        if start == 0:
            vectors = np.empty((len(texts), fresh.shape[-1]), dtype=np.float32)
        if fresh.shape != (len(part), vectors.shape[1]):
            want = [len(part), vectors.shape[1]]
            raise RunFailure(f"the encoder returned vectors {list(fresh.shape)} for {role}, expected {want}")
        vectors[start : start + len(part)] = fresh
    return vectors
