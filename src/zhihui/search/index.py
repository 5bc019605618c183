"""Index: an opened generation, searched by words, by vectors, or by both."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zhihui.encoder.prefixes import cut
from zhihui.encoder.protocol import TextEncoder
from zhihui.errors import InputError
from zhihui.ranking import BM25, DENSE_SHARE, TopK, reciprocal_rank_fusion, score_fusion
from zhihui.ranking.fusion import check_dense_share
from zhihui.runs import fingerprint
from zhihui.search.columns import read_columns
from zhihui.search.description import EncoderIdentity, IndexDescription, as_dict, read_description
from zhihui.search.filters import Condition, parse_filters, to_mask
from zhihui.search.flat import FlatVectors
from zhihui.search.generations import current, open_generation
from zhihui.search.highlight import highlights, query_words
from zhihui.search.hit import FUSIONS, MODES, Fusion, Hit, Mode, Score
from zhihui.search.lance import LanceVectors
from zhihui.search.passages import Passages
from zhihui.search.queries import checked_query

BM25_FOLDER = "bm25"
DEPTH = 1000
"""Passages of each ranking that are fused."""
_PLACES = ("source", "start", "end")  # of the metadata; hits have them by name


def open_index(folder: str | Path) -> Index:
    """Open an index for searching; whoever writes it meanwhile does not disturb.

    Raises:
        InputError: not an index, damaged, or of a newer format.
    """
    return Index(Path(folder))


class Index:
    """One generation of an index; a context manager. Several threads may search it."""

    def __init__(self, folder: Path) -> None:
        """Open the generation that counts; `open_index` does."""
        self.folder = folder
        self._generation, lock = open_generation(folder)
        self._close = weakref.finalize(self, os.close, lock)
        self.description: IndexDescription = read_description(self._generation)
        """What is in it: model, fingerprint, dimension, counts, fields to filter by."""
        self._accepted: TextEncoder | None = None
        try:
            self._passages = Passages(self._generation)
            self._flat = FlatVectors(self._generation)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: damaged ({error}); write it again with --rebuild") from None
        wanted = (self.description.passages, self.description.dimension)
        if self._flat.stored.shape != wanted or len(self._passages) != wanted[0]:
            found = f"{list(self._flat.stored.shape)} vectors, {len(self._passages)} passages"
            raise InputError(f"{folder}: damaged ({found}, not {list(wanted)}); write it again with --rebuild")

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __len__(self) -> int:
        return self.description.passages

    def close(self) -> None:
        """Let go of the generation, so that a writer may remove it."""
        self._close()

    @property
    def is_current(self) -> bool:
        """Whether no newer generation was written since; open the index again for that one."""
        return current(self.folder) == self._generation

    @property
    def fingerprint(self) -> str:
        """Changes whenever passages or vectors may."""
        return fingerprint([as_dict(self.description), self._generation.name])

    def row(self, number: int) -> dict[str, Any]:
        """Return the passage of a number from 0: `_id`, `title`, `text`, `metadata`."""
        return self._passages.row(number)

    def vectors(self, start: int, end: int) -> NDArray[np.float32]:
        """Return the vectors of some passages, `[end - start, D]`."""
        return np.ascontiguousarray(self._flat.stored[start:end], dtype=np.float32)

    def load_encoder(self, *, model: str | None = None, device: str | None = None) -> TextEncoder:
        """Load the model the index was made by.

        Args:
            model: folder or hub id where it is now; None takes where it was.
            device: where to compute; None takes a GPU if there is one.

        Raises:
            InputError: it is not there, or is another one.
        """
        from zhihui.encoder import load

        name = self.description.model if model is None else model
        if model is None and Path(name).is_absolute() and not Path(name).exists():
            mend = "say where it is with --model, or search with --mode bm25"
            raise InputError(f"{self.folder}: its model {name} is not there any more; {mend}")
        encoder = load(name, device=device)
        self.check(encoder)
        return encoder

    def check(self, encoder: TextEncoder) -> None:
        """See that an encoder is the one the index was made by; at the second asking that is known.

        Raises:
            InputError: it is another; the message says in what.
        """
        if self._accepted is encoder:
            return
        changed = self.description.encoder.changes(EncoderIdentity.of(encoder))
        if changed:
            mend = "search with the model it was made by, or write it again with --rebuild"
            raise InputError(f"{self.folder}: was made by another model ({changed}); {mend}")
        self._accepted = encoder

    def search(
        self,
        query: str,
        *,
        encoder: TextEncoder | None = None,
        top_k: int = 10,
        mode: Mode = "hybrid",
        filters: str | Sequence[str] | None = None,
        fusion: Fusion = "scores",
        dense_share: float | None = None,
        instruction: str | None = None,
    ) -> list[Hit]:
        """Return the best passages for a query, best first.

        Args:
            query: in plain words; white space around it does not count.
            encoder: the model the index was made by; not needed for "bm25".
            top_k: hits at most.
            mode: "dense" by vectors, "bm25" by words, "hybrid" by both.
            filters: conditions on the metadata, all of which a hit meets, as in "source = a.md and year >= 2020".
            fusion: hybrid: "scores" adds scores up (`zhihui.ranking.score_fusion`), "ranks" is reciprocal rank fusion.
            dense_share: hybrid: weight of the dense ranking, 0 to 1, the rest is BM25's; None for 0.6 of scores and
                half of ranks.
            instruction: the task in words, in place of the model's own prompt.

        Raises:
            InputError: a blank query, an unknown mode or fusion, top_k less than 1, a share that is none, a filter
                that cannot be read, no encoder or another than the index was made by.
        """
        query = checked_query(query)
        if mode not in MODES:
            raise InputError(f"mode {mode!r} is unknown; choose {', '.join(MODES)}")
        if fusion not in FUSIONS:
            raise InputError(f"fusion {fusion!r} is unknown; choose {' or '.join(FUSIONS)}")
        if dense_share is not None:
            check_dense_share(dense_share)
        if top_k < 1:
            raise InputError(f"top_k is {top_k}; ask for at least 1 hit")
        conditions = parse_filters(filters, self.description.fields)
        allowed: NDArray[np.bool_] | None = to_mask(conditions, self._columns) if conditions else None
        depth = min(max(DEPTH, top_k) if mode == "hybrid" else top_k, len(self))
        dense = bm25 = fused = None
        if mode != "bm25":
            dense = self._dense(query, encoder, depth, conditions, allowed, instruction)
        if mode != "dense":
            bm25 = self._bm25.search([query], depth, allowed=allowed)
        if dense is not None and bm25 is not None:
            fused = _fused(dense, bm25, min(top_k, len(self)), fusion, dense_share)
        return self._hits(query, dense, bm25, fused, top_k)

    def _dense(
        self,
        query: str,
        encoder: TextEncoder | None,
        depth: int,
        conditions: Sequence[Condition],
        allowed: NDArray[np.bool_] | None,
        instruction: str | None,
    ) -> TopK:
        if encoder is None:
            raise InputError("vectors are searched with the model; load it with load_encoder, or search by bm25")
        self.check(encoder)
        vector = cut(encoder.encode_queries([query], instruction=instruction), self.description.dimension)[0]
        if self._lance is not None:
            return self._lance.rank(vector, depth, conditions=conditions, allowed=allowed)
        return self._flat.rank(vector, depth, allowed=allowed)

    def _hits(self, query: str, dense: TopK | None, bm25: TopK | None, fused: TopK | None, top_k: int) -> list[Hit]:
        ranking = next(each for each in (fused, dense, bm25) if each is not None)
        words = query_words(query)
        numbers = [number for number in ranking.indices[0][:top_k].tolist() if number >= 0]
        scores = [_scores(each, numbers) for each in (dense, bm25, fused)]
        found = []
        for place, number in enumerate(numbers):
            row = self._passages.row(number)
            metadata = row["metadata"]
            of_dense, of_bm25, of_fused = (each.get(number) for each in scores)
            found.append(
                Hit(
                    id=row["_id"],
                    source=metadata["source"],
                    title=row["title"],
                    text=row["text"],
                    start=metadata["start"],
                    end=metadata["end"],
                    score=float(ranking.scores[0][place]),
                    rank=place + 1,
                    dense=of_dense,
                    bm25=of_bm25,
                    fused=of_fused,
                    highlights=highlights(row["text"], words),
                    metadata={name: value for name, value in metadata.items() if name not in _PLACES},
                )
            )
        return found

    @cached_property
    def _bm25(self) -> BM25:
        return BM25.load(self._generation / BM25_FOLDER)

    @cached_property
    def _columns(self) -> Any:
        return read_columns(self._generation)

    @cached_property
    def _lance(self) -> LanceVectors | None:
        if self.description.backend == "flat":
            return None
        return LanceVectors(self._generation, self._flat, self.description.ann)


def _fused(dense: TopK, bm25: TopK, k: int, fusion: Fusion, dense_share: float | None) -> TopK:
    if fusion == "scores":
        share = DENSE_SHARE if dense_share is None else dense_share
        return score_fusion([dense, bm25], k, weights=(share, 1 - share))
    share = 0.5 if dense_share is None else dense_share
    return reciprocal_rank_fusion([dense, bm25], k, weights=(2 * share, 2 - 2 * share))  # the paper's 1 and 1 at half


def _scores(ranking: TopK | None, numbers: Sequence[int]) -> dict[int, Score]:
    """Return what a ranking says of some passages; of those it does not list, nothing."""
    if ranking is None:
        return {}
    places = np.flatnonzero(np.isin(ranking.indices[0], numbers)).tolist()
    return {int(ranking.indices[0, at]): Score(float(ranking.scores[0, at]), at + 1) for at in places}
