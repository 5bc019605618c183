"""Vectors of an index: those of texts that were there are taken over, the others are computed and kept as they come."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zhihui import progress
from zhihui.encoder.cache import BLOCK, CachedEncoder
from zhihui.encoder.prefixes import cut
from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.search.cutting import DIGEST, KEYS
from zhihui.search.passages import Passages

VECTORS = "vectors.npy"
_WINDOW = 8192  # passages whose vectors are in memory at a time
_BLOCK = BLOCK  # texts that are encoded before their vectors are kept


class Known(NamedTuple):
    """Vectors that are there already."""

    rows: dict[bytes, int]
    """Digest of a text -> its vector's number."""
    vectors: NDArray[np.floating]
    """`[N, D]`, mapped."""

    def serve(self, dtype: str, dimension: int) -> bool:
        """Whether they are stored in a dtype, and at least as long: a prefix's prefix is that of the whole."""
        return self.vectors.dtype == dtype and self.vectors.shape[1] >= dimension

    @classmethod
    def of(cls, folder: Path) -> Known:
        """Open those of a generation."""
        keys = np.load(folder / KEYS, mmap_mode="r")
        rows = {keys[number, :DIGEST].tobytes(): number for number in range(len(keys))}
        return cls(rows, np.load(folder / VECTORS, mmap_mode="r"))

    @classmethod
    def none(cls) -> Known:
        """Return no vectors."""
        return cls({}, np.empty((0, 0), dtype=np.float32))


def embed(folder: Path, encoder: TextEncoder, known: Known, *, dimension: int, dtype: str, cache: Path) -> int:
    """Write the vectors of the passages in a folder, and return how many texts had to be encoded.

    Args:
        folder: has the passages and their keys.
        encoder: computes what is not known.
        known: vectors of the same encoder.
        dimension: D of a vector as it is stored; longer ones are cut.
        dtype: "float32" or "float16", what is stored.
        cache: folder where computed vectors are kept until the index is written.

    Raises:
        InputError: a vector is not finite.
    """
    passages = Passages(folder)
    digests = [key[:DIGEST].tobytes() for key in np.load(folder / KEYS, mmap_mode="r")]
    cached = CachedEncoder(encoder, cache, block=_BLOCK)
    # Written from front to back: a full disk is an error here, and would kill the process if the file were mapped.
    with (folder / VECTORS).open("wb") as stream:
        form = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
        np.lib.format.write_array_header_1_0(stream, {**form, "shape": (len(passages), dimension)})
        with progress.bar(len(passages), "Vectors") as bar:
            for start in range(0, len(passages), _WINDOW):
                some = range(start, min(start + _WINDOW, len(passages)))
                stream.write(_window(passages, some, digests, cached, known, dimension).astype(dtype).tobytes())
                bar.advance(len(some))
    return len({digest for digest in digests if digest not in known.rows})


def _window(
    passages: Passages,
    some: range,
    digests: list[bytes],
    encoder: TextEncoder,
    known: Known,
    dimension: int,
) -> NDArray[np.float32]:
    vectors = np.empty((len(some), dimension), dtype=np.float32)
    old = [place for place, number in enumerate(some) if digests[number] in known.rows]
    new = [place for place, number in enumerate(some) if digests[number] not in known.rows]
    if old:
        rows = [known.rows[digests[some[place]]] for place in old]
        vectors[old] = cut(known.vectors[rows].astype(np.float32, copy=False), dimension)
    if new:
        vectors[new] = cut(encoder.encode_documents([passages[some[place]] for place in new]), dimension)
    if not np.isfinite(vectors).all():
        raise InputError("the model gave a vector with NaN or infinity; load it in float32 or bfloat16")
    return vectors
