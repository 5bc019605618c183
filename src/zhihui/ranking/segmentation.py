"""Chinese text to words: what BM25 counts."""

from __future__ import annotations

import re
from collections.abc import Iterable

from zhihui.errors import require
from zhihui.ranking.folding import fold_all

_WORD_CHARACTER = re.compile(r"[^\W_]")


def segment(text: str) -> list[str]:
    """Return the words of a text.

    The text is NFKC-normalised, lower-cased and brought to simplified script; words are those of jieba's
    dictionary and hidden Markov model; tokens without a letter, digit or Chinese character are dropped.

    Raises:
        MissingExtra: rjieba or OpenCC is not installed.
    """
    return segment_all([text])[0]


def segment_all(texts: Iterable[str]) -> list[list[str]]:
    """Return the words of each text, as `segment` does.

    Raises:
        MissingExtra: rjieba or OpenCC is not installed.
    """
    cut = require("rjieba", extra="mine", purpose="Chinese word segmentation").cut
    is_word = _WordTest().__getitem__
    return [list(filter(is_word, cut(text))) for text in fold_all(list(texts))]


class _WordTest(dict[str, bool]):
    """Token -> whether it has a word character; words recur, so remembering beats searching several times."""

    def __missing__(self, token: str) -> bool:
        known = self[token] = _WORD_CHARACTER.search(token) is not None
        return known
