"""Texts that differ in script, letter case or width of characters only, made equal."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from typing import cast

from zhihui.errors import require

_BETWEEN = "\x1e"
"""ASCII's record separator, past which no phrase of OpenCC reaches."""
# Nearly all that NFKC changes in Chinese text; once it is replaced, the rest passes the quick check.
_WIDE = re.compile("[\uff01-\uff5e\u3000\u2026]")
_NARROW = {chr(code): unicodedata.normalize("NFKC", chr(code)) for code in (*range(0xFF01, 0xFF5F), 0x3000, 0x2026)}


def fold(text: str) -> str:
    """Return a text NFKC-normalised, lower-cased and in simplified script.

    Raises:
        MissingExtra: OpenCC is not installed.
    """
    return _simplifier()(_nfkc(text).lower())


def fold_all(texts: Sequence[str]) -> list[str]:
    """Return the texts folded, as `fold` does, at less cost for each.

    Raises:
        MissingExtra: OpenCC is not installed.
    """
    joined = _BETWEEN.join([_nfkc(text).lower() for text in texts])
    if not texts or joined.count(_BETWEEN) != len(texts) - 1:
        return [fold(text) for text in texts]
    return _simplifier()(joined).split(_BETWEEN)


def _nfkc(text: str) -> str:
    """Normalise as unicodedata does, several times faster for Chinese."""
    text = _WIDE.sub(lambda match: _NARROW[match[0]], text)
    return text if unicodedata.is_normalized("NFKC", text) else unicodedata.normalize("NFKC", text)


@cache
def _simplifier() -> Callable[[str], str]:
    opencc = require("opencc", extra="mine", purpose="matching simplified with traditional text")
    return cast("Callable[[str], str]", opencc.OpenCC("t2s").convert)
