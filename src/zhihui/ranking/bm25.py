"""BM25 over Chinese words: the lexical retriever that a dense one has to beat."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from zhihui.errors import InputError, require
from zhihui.progress import track
from zhihui.ranking.segmentation import segment_all
from zhihui.ranking.topk import TopK, best
from zhihui.runs import read_json, write_json

_ABOUT = "zhihui.json"  # beside the files of bm25s
_BATCH = 1000  # texts segmented between two moves of the progress bar


class BM25:
    """An index of passages that ranks them by BM25 (Lucene's variant, Kamphuis et al. 2020; made by bm25s).

    score(q, d) = sum over the words w of q of  idf(w) * tf / (tf + k1 * (1 - b + b * |d| / average |d|)),
    idf(w) = ln(1 + (N - df + 0.5) / (df + 0.5)); a word given twice in the query counts twice.
    """

    def __init__(
        self, passages: Sequence[str], *, k1: float = 1.5, b: float = 0.75, stop_words: Collection[str] = ()
    ) -> None:
        """Segment and index the passages.

        Args:
            passages: texts, titles included where they shall count.
            k1: how slowly repetitions of a word saturate, 0 or more.
            b: how much long passages are discounted, 0 to 1.
            stop_words: words that do not count, in lower case and simplified script, such as `STOP_WORDS`.

        Raises:
            InputError: k1 or b is out of bounds.
            MissingExtra: bm25s, rjieba or OpenCC is not installed.
        """
        if not k1 >= 0:
            raise InputError(f"k1 is {k1}; give 0 or more, usually 1.5")
        if not 0 <= b <= 1:
            raise InputError(f"b is {b}; give a number from 0 to 1, usually 0.75")
        bm25s = require("bm25s", extra="mine", purpose="BM25")
        self._size = len(passages)
        self._stop_words = frozenset(stop_words)
        self._vocabulary: dict[str, int] = {}
        number = self._vocabulary.setdefault
        numbered = [
            [number(word, len(self._vocabulary)) for word in words if word not in self._stop_words]
            for words in _segmented(passages, label="BM25 index")
        ]
        self._index = None
        if self._vocabulary:  # bm25s divides by the average length, zero without any word
            self._index = bm25s.BM25(k1=k1, b=b, method="lucene", backend="numpy")
            self._index.index((numbered, self._vocabulary), create_empty_token=False, show_progress=False)

    def save(self, folder: Path) -> None:
        """Write the index into a folder, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        about = {"passages": self._size, "stop_words": sorted(self._stop_words), "empty": self._index is None}
        if self._index is not None:
            self._index.save(folder, show_progress=False)
        write_json(folder / _ABOUT, about)

    @classmethod
    def load(cls, folder: Path) -> BM25:
        """Return a saved index; its weights are mapped, so that only those of a query's words are read.

        Raises:
            InputError: the folder holds none.
            MissingExtra: bm25s is not installed.
        """
        bm25s = require("bm25s", extra="mine", purpose="BM25")
        about = read_json(folder / _ABOUT)
        index = cls.__new__(cls)
        index._size = about["passages"]
        index._stop_words = frozenset(about["stop_words"])
        index._index = None if about["empty"] else bm25s.BM25.load(folder, mmap=True, show_progress=False)
        index._vocabulary = {} if index._index is None else index._index.vocab_dict
        return index

    def __len__(self) -> int:
        return self._size

    def search(self, queries: Sequence[str], k: int, *, allowed: NDArray[np.bool_] | None = None) -> TopK:
        """Return the k best passages of each query, `[Q, k]`; passages without a common word are not listed.

        Args:
            queries: texts.
            k: passages of each query.
            allowed: `[N]`, which passages may be listed; None for all.

        Raises:
            InputError: k is less than 1.
        """
        if k < 1:
            raise InputError(f"k is {k}; ask for at least 1 passage")
        found = TopK.empty(len(queries), k)
        for row, words in enumerate(_segmented(queries, label="BM25 search")):
            scores = self._scores(words)
            matched = np.flatnonzero(scores if allowed is None else scores * allowed)
            chosen = matched[best(scores[matched], k)]
            found.indices[row, : len(chosen)] = chosen
            found.scores[row, : len(chosen)] = scores[chosen]
        return found

    def _scores(self, words: list[str]) -> NDArray[np.float32]:
        known = [self._vocabulary[word] for word in words if word in self._vocabulary]
        if self._index is None or not known:
            return np.zeros(self._size, dtype=np.float32)
        return self._index.get_scores_from_ids(known)


def _segmented(texts: Sequence[str], *, label: str) -> Iterator[list[str]]:
    batches = (segment_all(texts[start : start + _BATCH]) for start in range(0, len(texts), _BATCH))
    return iter(track(chain.from_iterable(batches), total=len(texts), label=label))
