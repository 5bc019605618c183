"""Embedding cache: what was encoded once by these weights is read from disk, by whoever asks next.

A cache is a folder. Below it each kind of vector has a folder of its own, named by all that a vector depends on besides
the text: the encoder's fingerprint (weights, tokenizer, prompts, pooling, dtype, length, attention), role, instruction.
In it lie blocks: files written whole or not at all, each with the digests of its texts and their vectors. No file is
ever changed, so a process killed at any moment leaves a good cache, and several processes can share one.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zhihui import progress
from zhihui.encoder.protocol import TextEncoder, encode_as
from zhihui.encoder.settings import Role
from zhihui.errors import InputError, RunFailure
from zhihui.runs import atomic_open, fingerprint

BLOCK = 2048
"""Texts in a block: what a killed run loses at most, and enough for batches of texts of like length."""
_FORMAT = 1
"""Part of every folder's name; to be raised when blocks are written differently."""
_DIGEST = 16
"""Bytes that stand for a text: two of 10^12 texts share them with a probability below 10^-14."""


class CachedEncoder:
    """A `TextEncoder` that computes each distinct text once and keeps its vector on disk.

    Vectors read are bit for bit those stored. The encoder's fingerprint is asked at every call: a model trained on
    between two calls gets new vectors. Nothing is ever removed; delete the folder to be rid of it.
    """

    def __init__(self, encoder: TextEncoder, folder: Path, *, block: int = BLOCK) -> None:
        """Wrap an encoder.

        Args:
            encoder: computes what is not there.
            folder: of the cache, made when first written to; models, roles and processes may share it.
            block: texts encoded and written together.

        Raises:
            InputError: `folder` is a file, or `block` is not positive.
        """
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file; an embedding cache is a folder")
        if block < 1:
            raise InputError(f"block {block} is not positive; encode at least 1 text at a time")
        self._encoder = encoder
        self._folder = folder
        self._block = block
        self._shelves: dict[str, _Shelf] = {}

    @property
    def name(self) -> str:
        """The encoder's."""
        return self._encoder.name

    @property
    def fingerprint(self) -> str:
        """The encoder's: the same vectors, wherever they come from."""
        return self._encoder.fingerprint

    def encode_queries(self, texts: Sequence[str], *, instruction: str | None = None) -> NDArray[np.float32]:
        """Return query vectors `[N, D]`, in the order given; `instruction` replaces the model's own.

        Raises:
            RunFailure: the encoder returned another number of vectors, or not vectors of one length.
        """
        return self._encode(texts, "query", instruction)

    def encode_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return passage vectors `[N, D]`, in the order given.

        Raises:
            RunFailure: the encoder returned another number of vectors, or not vectors of one length.
        """
        return self._encode(texts, "document", None)

    def _encode(self, texts: Sequence[str], role: Role, instruction: str | None) -> NDArray[np.float32]:
        if isinstance(texts, str):
            raise ValueError("texts is a single string; pass a list of strings")
        if not texts:
            return encode_as(self._encoder, [], role=role, instruction=instruction)
        key = fingerprint([_FORMAT, self._encoder.fingerprint, role, instruction])
        shelf = self._shelves.setdefault(key, _Shelf(self._folder / key))
        digests = [_digest(text) for text in texts]
        shelf.refresh()
        missing = {digest: text for digest, text in zip(digests, texts, strict=True) if digest not in shelf}
        # Looked at again as the loop comes to them: another process may have done some meanwhile.
        rest = ((digest, text) for digest, text in missing.items() if digest not in shelf)
        with progress.bar(len(missing), "Encoding what is not cached") as bar:
            while part := dict(islice(rest, self._block)):
                self._compute(shelf, part, role, instruction)
                shelf.refresh()
                bar.advance(len(part))
        return shelf.read(digests)

    def _compute(self, shelf: _Shelf, part: dict[bytes, str], role: Role, instruction: str | None) -> None:
        texts = list(part.values())
        vectors = np.asarray(encode_as(self._encoder, texts, role=role, instruction=instruction), dtype=np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or vectors.shape[1] != (shelf.dimension or vectors.shape[1]):
            want = f"[{len(texts)}, {shelf.dimension or 'D'}]"
            raise RunFailure(f"{self.name} returned vectors {list(vectors.shape)} for {role} texts, expected {want}")
        shelf.add(list(part), vectors)


@dataclass(frozen=True)
class _Block:
    path: Path
    offset: int
    """Bytes before the first vector."""
    shape: tuple[int, int]

    def vectors(self) -> NDArray[np.float32]:
        """Map the vectors `[n, D]`; the pages are let go with the array."""
        return np.memmap(self.path, dtype=np.float32, mode="r", offset=self.offset, shape=self.shape)


class _Shelf:
    """The blocks of one kind of vector, and where in them each text's vector lies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.dimension: int | None = None
        self._blocks: list[_Block] = []
        self._seen: set[str] = set()
        self._places: dict[bytes, int] = {}
        """Block and row of a text's vector, as one number: a pair would take three times the memory."""

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def refresh(self) -> None:
        """Take up the blocks that were written since; a torn one is ignored."""
        if not self.folder.is_dir():
            return
        for name in sorted(set(os.listdir(self.folder)) - self._seen):
            if name.endswith(".block") and not name.startswith("."):
                self._seen.add(name)
                self._take(self.folder / name)

    def add(self, digests: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        """Write a block. Equal contents have equal names, so two processes that did the same leave one file."""
        keys = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, _DIGEST)
        vectors = np.ascontiguousarray(vectors)
        name = hashlib.sha256(keys.tobytes())
        name.update(vectors.data)
        path = self.folder / f"{name.hexdigest()[:32]}.block"
        with atomic_open(path, "wb") as stream:
            np.save(stream, keys)
            np.save(stream, vectors)
        self._seen.add(path.name)
        if not self._take(path):
            raise RunFailure(f"{path}: cannot be read back after it was written; check the disk")

    def read(self, digests: Sequence[bytes]) -> NDArray[np.float32]:
        """Return the vectors `[N, D]` of these texts; one block at a time is in memory besides."""
        places = np.fromiter((self._places[digest] for digest in digests), dtype=np.int64, count=len(digests))
        assert self.dimension is not None, "a text was found, so there is a block"
        vectors = np.empty((len(digests), self.dimension), dtype=np.float32)
        order = np.argsort(places, kind="stable")
        blocks = places[order] >> 32
        starts = np.flatnonzero(np.diff(blocks, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], len(order)], strict=True):
            rows = order[start:stop]
            vectors[rows] = self._blocks[blocks[start]].vectors()[places[rows] & 0xFFFFFFFF]
        return vectors

    def _take(self, path: Path) -> bool:
        """Note what is in a block; False when it is torn."""
        try:
            with path.open("rb") as stream:
                keys = np.load(stream, allow_pickle=False)
                shape = _header(stream)
                block = _Block(path, stream.tell(), shape)
                whole = stream.seek(0, os.SEEK_END) == block.offset + 4 * shape[0] * shape[1]
        except (ValueError, EOFError, OSError):
            return False
        if not whole or keys.shape != (shape[0], _DIGEST) or shape[1] != (self.dimension or shape[1]):
            return False
        self.dimension = shape[1]
        number = len(self._blocks) << 32
        self._blocks.append(block)
        raw = keys.tobytes()
        for row in range(shape[0]):
            self._places.setdefault(raw[row * _DIGEST : (row + 1) * _DIGEST], number | row)
        return True


def _header(stream: object) -> tuple[int, int]:
    """Read past the header of a two-dimensional array of fp32 and return its shape."""
    if np.lib.format.read_magic(stream) != (1, 0):  # type: ignore[arg-type]
        raise ValueError("not the version of .npy that numpy writes for such an array")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)  # type: ignore[arg-type]
    if fortran or dtype != np.float32 or len(shape) != 2:
        raise ValueError(f"{dtype} {shape} are not the vectors of a block")
    return shape[0], shape[1]


def _digest(text: str) -> bytes:
    # Half a surrogate pair is no character but is a possible string, and a tokenizer may take it.
    return hashlib.blake2b(text.encode("utf-8", errors="surrogatepass"), digest_size=_DIGEST).digest()
