"""What is asked of an index."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from zhihui.corpus import ChunkConfig
from zhihui.errors import InputError

Backend = Literal["auto", "flat", "lancedb"]
StoreDtype = Literal["float32", "float16"]
SMALL = 50_000
"""Passages below which `auto` is flat: all vectors are read for a query in some hundredths of a second."""


@dataclass(frozen=True, kw_only=True)
class IndexConfig:
    """Settings of an index; all of them are kept in it, and a run with others is refused unless it rebuilds.

    Raises:
        InputError: a value out of bounds.
    """

    chunk: ChunkConfig = field(default_factory=ChunkConfig)
    """How documents are cleaned and cut; the size counts tokens of the model. `field` names the rows' text key."""
    whole: bool = False
    """Whether each document is one passage as it stands, neither cleaned nor cut; rows of a BEIR corpus always are."""
    backend: Backend = "auto"
    """flat reads all vectors; lancedb has an approximate index; auto is flat below 50,000 passages or without it."""
    ann_from: int = 50_000
    """lancedb: passages from which the search is approximate; below it is exact."""
    store_dtype: StoreDtype = "float32"
    """What vectors are stored in; float16 takes half the space and changes scores in the fourth digit."""
    dimensions: int | None = None
    """Numbers a vector is cut to, of those the model was trained to be cut to; None leaves them whole."""
    k1: float = 1.5
    """BM25: how slowly repetitions of a word saturate, 0 or more."""
    b: float = 0.75
    """BM25: how much long passages are discounted, 0 to 1."""

    def __post_init__(self) -> None:
        for name, value, known in (
            ("backend", self.backend, get_args(Backend)),
            ("store_dtype", self.store_dtype, get_args(StoreDtype)),
        ):
            if value not in known:
                raise InputError(f"{name} {value!r} is unknown; choose {', '.join(known[:-1])} or {known[-1]}")
        if self.dimensions is not None and self.dimensions < 1:
            raise InputError(f"dimensions {self.dimensions} leaves nothing of a vector; give a length, or none")
        if self.ann_from < 1:
            raise InputError(f"ann_from {self.ann_from} is too small; give a number of passages, usually 50000")
        if not self.k1 >= 0:
            raise InputError(f"k1 is {self.k1}; give 0 or more, usually 1.5")
        if not 0 <= self.b <= 1:
            raise InputError(f"b is {self.b}; give a number from 0 to 1, usually 0.75")
